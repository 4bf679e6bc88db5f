"""The record that a benchmark leaves, ``--json FILE``; `docs/benchmarks.md` is made of those in ``docs/benchmarks``.

A record says what was compared with whom, by which command and on which machine. A row is one comparison: the values of
the peer and of this package, their ratio (above 1: ours is better), the project's goal for the ratio, and
whether the accuracy condition held: a row whose `counts` is false is no claim.

Example:
    >>> row = Row("256 x 256", "Pillow", 3.0, 2.0, goal=1.2, accuracy="equal within 0.1 of 255")
    >>> record = build_record("resizing", "Resizing", "ms of processor time", [row])
    >>> record["rows"][0]["ratio"], check_record(record)
    (1.5, [])
"""

import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

SCHEMA = 1
NO_GPU = "not measured: no GPU"
_TEXTS = ("script", "title", "command", "measured", "unit")
_MACHINE = ("processor", "cores", "threads", "device", "torch", "monai")


@dataclass(frozen=True)
class Row:
    """One comparison."""

    #: What is measured, e.g. the size of the input.
    what: str
    #: Name of the peer, with its version and its settings if they are not its defaults.
    peer: str
    #: The peer's value in the unit of the record; None if it was not measured.
    peer_value: float | None
    #: Our value; None if it was not measured.
    ours: float | None
    #: The ratio that the project wants; None if it stated none.
    goal: float | None = None
    #: Above 1: ours is better; None: the peer's value / ours, as for seconds and bytes.
    ratio: float | None = None
    #: Lowest and highest ratio of the repetitions.
    spread: tuple[float, float] | None = None
    #: The condition under which the row counts, with what was found.
    accuracy: str = ""
    #: False if that condition failed.
    counts: bool = True
    #: What else a reader must know; the reason of a missing value.
    note: str = ""


def build_record(
    script: str, title: str, unit: str, rows: Sequence[Row], *, curves: Sequence[dict[str, Any]] = (), threads: int = 1
) -> dict[str, Any]:
    """Return a record of this process.

    Args:
        script: name of the script without its ending.
        title: heading of its section.
        unit: of the values, e.g. "ms of processor time".
        rows: the comparisons.
        curves: scores against time, ``{"title", "x", "y", "lines": [{"name", "points": [[x, y, low, high], ...]}]}``.
        threads: of the processor that were used.
    """
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "script": script,
        "title": title,
        "command": describe_command(script),
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": describe_machine(threads),
        "unit": unit,
        "rows": [_finish(row) for row in rows],
    }
    return {**record, "curves": list(curves)} if curves else record


def write_record(path: Path | None, record: dict[str, Any]) -> None:
    """Write a record after checking it; with ``None`` nothing is written.

    Raises:
        ValueError: it is not a record.
    """
    problems = check_record(record)
    if problems:
        raise ValueError(f"{record.get('script')}: " + "; ".join(problems))
    if path:
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a file.

    Raises:
        ValueError: it is not a record.
    """
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    problems = check_record(record)
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems))
    return record


def check_record(record: dict[str, Any]) -> list[str]:
    """List what is wrong with a record."""
    found = [f"no text {key!r}" for key in _TEXTS if not record.get(key) or not isinstance(record[key], str)]
    found += [f"machine without {key!r}" for key in _MACHINE if key not in record.get("machine", {})]
    if record.get("schema") != SCHEMA:
        found.append(f"schema {record.get('schema')!r}, expected {SCHEMA}")
    if not record.get("rows"):
        found.append("no rows")
    return found + [problem for row in record.get("rows", []) for problem in _check_row(row)]


def _check_row(row: dict[str, Any]) -> list[str]:
    name = row.get("what")
    missing = set(Row.__dataclass_fields__) ^ set(row)
    if missing:
        return [f"row {name!r}: missing or unknown {sorted(missing)}"]
    values = [row["peer_value"], row["ours"]]
    if None in values:
        return [] if row["note"] else [f"row {name!r}: a value is missing and the note does not say why"]
    if row["ratio"] is None and not row["note"]:
        return [f"row {name!r}: no ratio, and the note does not say why"]
    if not all(math.isfinite(value) for value in [*values, row["ratio"] or 0]):
        return [f"row {name!r}: values and ratio must be finite numbers"]
    return []


def _finish(row: Row) -> dict[str, Any]:
    """Return the row with its ratio, rounded to four digits."""
    found = asdict(row)
    if found["ratio"] is None and row.peer_value is not None and row.ours:
        found["ratio"] = row.peer_value / row.ours
    for key in ("peer_value", "ours", "ratio", "goal"):
        found[key] = _round(found[key])
    found["spread"] = [_round(value) for value in row.spread] if row.spread else None
    return found


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def describe_command(script: str) -> str:
    """Return the command of this process; folders of this machine by their last name, and without ``--json``."""
    words, skip = [f"benchmarks/{script}.py"], False
    for word in sys.argv[1:]:
        if not skip and word != "--json":
            words.append(Path(word).name if word.startswith("/") else word)
        skip = word == "--json"
    return shlex.join(["python", *words])


def describe_machine(threads: int = 1) -> dict[str, Any]:
    """Return what a reader must know of the machine."""
    import torch

    gpu = torch.cuda.is_available()
    return {
        "processor": _read_processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "torch": metadata.version("torch"),
        "monai": metadata.version("monai"),
        "huge_pages": os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",
    }


def _read_processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text(encoding="utf-8").splitlines() if facts.is_file() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
