"""What an audit finds, and its result as lines and JSON."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.bundle.audit.codes import CODES, LEVELS, Level
from pipeline.issues import join_lines

#: Stands for a file where values come from the command line; before the path of a file that is named there.
COMMAND_LINE = "(command line)"
_LONGEST_TEXT = 160


@dataclass(frozen=True)
class Finding:
    """One finding of an audit.

    Example:
        >>> print(make_finding("insecure-url", "large_files.yml", "large_files#0#url", "http://x.y").one_line())
        error insecure-url large_files.yml large_files#0#url: http://x.y; use https
    """

    code: str  #: stable kebab-case name, a key of `CODES`
    level: Level  #: ``"error"`` blocks, ``"review"`` is for a person to decide, ``"note"`` is for information
    file: str  #: path within the bundle; "" for the bundle as a whole
    key: str  #: id in a config with ``#``, or the place within the file; may be ""
    why: str  #: what was found
    todo: str  #: what to do about it

    def one_line(self) -> str:
        """Return the finding as one line."""
        head = " ".join(part for part in (self.level, self.code, self.file, self.key) if part)
        return join_lines(f"{head}: {self.why}; {self.todo}")


def make_finding(
    code: str, file: str, key: str = "", why: str = "", *, todo: str = "", level: Level | None = None
) -> Finding:
    """Return a finding with the level and the advice of its code."""
    known = CODES[code]
    return Finding(code, level or known.level, file, key.replace("::", "#"), why or known.meaning, todo or known.todo)


def shorten(value: object) -> str:
    """Return a value as Python writes it, cut off where it is long.

    Example:
        >>> shorten("a" * 3), len(shorten("a" * 1000))
        ("'aaa'", 163)
    """
    # The whole of a giant text need not be written to show its beginning.
    text = repr(value[: 2 * _LONGEST_TEXT] if isinstance(value, str) else value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


@dataclass(frozen=True)
class AuditResult:
    """The findings of an audit, errors first, and the digests of the files that were read."""

    name: str  #: of the folder or archive
    findings: tuple[Finding, ...] = ()  #: sorted by level, file and key
    #: SHA-256 of every file, by path within the bundle, and of what the receiver typed
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def errors(self) -> list[Finding]:
        """The findings that block."""
        return [finding for finding in self.findings if finding.level == "error"]

    @property
    def reviews(self) -> list[Finding]:
        """The findings that a person must decide about."""
        return [finding for finding in self.findings if finding.level == "review"]

    def summary(self) -> str:
        """Return the numbers of findings in one line."""
        counts = Counter(finding.level for finding in self.findings)
        numbers = ", ".join(f"{counts[level]} {level}" for level in LEVELS)
        files = sum(not path.startswith(COMMAND_LINE) for path in self.digests)
        return join_lines(f"{self.name}: {numbers}; {files} files")

    def format(self) -> str:
        """Return one line a finding, of notes that say the same of many files one line in all, and the summary."""
        alike: dict[Finding, list[Finding]] = {}
        for finding in self.findings:
            alike.setdefault(replace(finding, file="") if finding.level == "note" else finding, []).append(finding)
        shown = (
            replace(first, file=f"{first.file} and {len(others)} more") if others else first
            for first, *others in alike.values()
        )
        return "\n".join([*(finding.one_line() for finding in shown), self.summary()])

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON; each finding has the digest of its file, as allow-lists need it."""
        found = [asdict(finding) | {"sha256": self.digests.get(finding.file, "")} for finding in self.findings]
        counts = Counter(finding.level for finding in self.findings)
        return {
            "bundle": self.name,
            "clean": not self.errors,
            "counts": {level: counts[level] for level in LEVELS},
            "findings": found,
            "files": dict(self.digests),
        }


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings without repetitions, errors first, then by file and place."""
    unique = dict.fromkeys(findings)
    return tuple(sorted(unique, key=lambda item: (LEVELS.index(item.level), item.file, item.key, item.code, item.why)))
