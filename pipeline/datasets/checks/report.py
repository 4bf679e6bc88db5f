"""Format the result of a check as text and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.datasets.checks.integrity import Report, count_splits
from pipeline.datasets.manifests.manifest import normalise_subject
from pipeline.issues import Issue, join_lines

_COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m"}
_END = "\x1b[0m"


def format_report(report: Report, *, title: str, colour: bool = False, quiet: bool = False) -> str:
    """Return a report as text: title and counts, findings by severity and code, number of errors and warnings.

    ``colour`` uses terminal colours, ``quiet`` leaves only the findings.
    """
    lines = [] if quiet else [title, *_describe_splits(report)]
    for severity in ("error", "warning"):
        own = [issue for issue in report.issues if issue.severity == severity]
        for code in sorted({issue.code for issue in own}):
            lines += _format_group([issue for issue in own if issue.code == code], colour)
    errors = len(report.errors())
    accepted = f", {plural(len(report.accepted), 'finding')} accepted by the baseline" if report.accepted else ""
    if not quiet:
        lines.append(f"{plural(errors, 'error')}, {plural(len(report.issues) - errors, 'warning')}{accepted}")
    return "\n".join(lines)


def _describe_splits(report: Report) -> Iterator[str]:
    for split, numbers in count_splits(report).items():
        empty = numbers["empty_masks"]
        masks = "masks not read" if empty is None else plural(empty, "empty mask")
        cases, files = (plural(numbers[key] or 0, key.removesuffix("s")) for key in ("cases", "files"))
        counts = [cases, _describe_subjects(report, split), files]
        yield f"  {split}: {', '.join([*counts, masks])}"
    if report.absent:
        yield f"  not in the folder, not checked: {plural(len(report.absent), 'test case')} (check with --split test)"
    for text, number in report.handled.items():
        yield f"  handled: {number} {text}"


def _describe_subjects(report: Report, split: str) -> str:
    names = [normalise_subject(result.case.subject) for result in report.results if result.case.split == split]
    known, unknown = len({name for name in names if name}), names.count("")
    if not known:
        return "subjects unknown"
    return plural(known, "subject") + (f" and {plural(unknown, 'case')} of unknown subjects" if unknown else "")


def _format_group(issues: Sequence[Issue], colour: bool) -> list[str]:
    severity = issues[0].severity
    head = f"{severity} {issues[0].code} ({len(issues)})"
    lines = [f"{_COLOURS[severity]}{head}{_END}" if colour else head]
    for issue in issues:
        text = f"{issue.where()}: {issue.message}" if issue.where() else issue.message
        lines.append("  " + join_lines(f"{text}; {issue.hint}" if issue.hint else text))
    return lines


def plural(number: int, noun: str) -> str:
    """Return number and noun, with a plural s unless the number is 1."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def report_to_dict(report: Report) -> dict[str, Any]:
    """Return a report as a dictionary for JSON: numbers of errors and warnings, numbers by split, all findings."""
    errors = len(report.errors())
    return {
        "errors": errors,
        "warnings": len(report.issues) - errors,
        "splits": count_splits(report),
        "absent": [case.case_id for case in report.absent],
        "handled": dict(report.handled),
        "accepted": [issue.to_dict() for issue in report.accepted],
        "issues": [issue.to_dict() for issue in report.issues],
    }
