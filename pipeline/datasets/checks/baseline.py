"""Baselines: findings that a lab knows and accepts, so that a check fails only for new ones.

A finding is identified by its code, record and file, not by its message, because messages may change.
"""

import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.datasets.checks.inspection import Level
from pipeline.datasets.checks.integrity import Report
from pipeline.datasets.manifests.strict_json import parse_json
from pipeline.issues import InputError, Issue

LEVELS: tuple[Level, ...] = ("quick", "default", "deep")
# Without a manifest or a folder there was no check, so these are never accepted.
NEVER_ACCEPTED = frozenset({"manifest-syntax", "manifest-schema", "missing-dataset", "baseline-stale"})
_VERSION = 1


@dataclass(frozen=True, order=True)
class Accepted:
    """A known finding."""

    code: str  #: code of the finding
    record: str  #: its case or place
    path: str = ""  #: its file; "" accepts the code for every file of the record

    def covers(self, issue: Issue) -> bool:
        """Return whether this entry accepts the finding."""
        return (self.code, self.record) == (issue.code, issue.record) and self.path in ("", issue.path)


@dataclass(frozen=True)
class Baseline:
    """Known findings."""

    level: Level  #: level of the check that found them; a check at a lower level cannot tell that one is gone
    entries: tuple[Accepted, ...]  #: the findings


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        InputError: it cannot be read or is not a baseline.
    """
    try:
        data, problems = parse_json(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"cannot read the baseline {path}: {reason}; --write-baseline {path} makes one") from None
    if problems:
        raise InputError(f"baseline {path}: {problems[0].message}")
    if not isinstance(data, dict) or data.get("schema_version") != _VERSION or data.get("level") not in LEVELS:
        raise InputError(f"baseline {path}: expected schema_version {_VERSION}, level and accepted; write it again")
    accepted = data.get("accepted")
    entries = accepted if isinstance(accepted, list) else [None]
    return Baseline(
        data["level"], tuple(_read_entry(entry, f"{path} accepted[{i}]") for i, entry in enumerate(entries))
    )


def _read_entry(entry: Any, place: str) -> Accepted:
    keys = {"code", "record", "path"}
    if not isinstance(entry, dict) or not {"code", "record"} <= set(entry) <= keys:
        raise InputError(f"baseline {place}: expected code, record and path, got {str(entry)[:60]}")
    if not all(isinstance(value, str) for value in entry.values()):
        raise InputError(f"baseline {place}: expected strings, got {str(entry)[:60]}")
    if entry["code"] in NEVER_ACCEPTED:
        raise InputError(
            f"baseline {place}: {entry['code']} cannot be accepted, because it means that nothing was checked"
        )
    return Accepted(**entry)


def write_baseline(issues: Iterable[Issue], level: Level, path: str | os.PathLike[str]) -> int:
    """Write findings as a baseline, sorted, and return their number."""
    known = {Accepted(issue.code, issue.record, issue.path) for issue in issues if issue.code not in NEVER_ACCEPTED}
    content = {"schema_version": _VERSION, "level": level, "accepted": [asdict(entry) for entry in sorted(known)]}
    with write_atomically(path) as stream:
        stream.write(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return len(known)


def apply_baseline(report: Report, baseline: Baseline, level: Level, records: Collection[str] | None = None) -> Report:
    """Move known findings to ``accepted``; entries that no longer match become ``baseline-stale`` warnings.

    A check of some cases gives their ``records``, because only their findings can be stale.
    """
    known: dict[tuple[str, str], list[Accepted]] = defaultdict(list)
    for entry in baseline.entries:
        known[entry.code, entry.record].append(entry)
    left: list[Issue] = []
    accepted: list[Issue] = []
    used: set[Accepted] = set()
    for issue in report.issues:
        covering = [entry for entry in known.get((issue.code, issue.record), ()) if entry.covers(issue)]
        used |= set(covering)
        (accepted if covering and issue.code not in NEVER_ACCEPTED else left).append(issue)
    if LEVELS.index(level) >= LEVELS.index(baseline.level):
        hint = "remove the entry, or write the baseline again (--write-baseline)"
        for entry in baseline.entries:
            if entry not in used and (records is None or entry.record in records):
                message = f"the baseline accepts {entry.code} here, which is no longer found"
                left.append(Issue("baseline-stale", "warning", message, entry.record, entry.path, hint))
    return replace(report, issues=tuple(left), accepted=tuple(accepted))
