"""The page of benchmarks, `docs/benchmarks.md`, from the records in `docs/benchmarks`; nothing in it is typed by hand.

``docs/benchmarks/NAME.json`` is what ``python benchmarks/SCRIPT.py --json`` wrote; NAME is the script's, or begins with
it where one script leaves several records, as of two datasets. Beside each stands its chart. Keep a record:
``python benchmarks/SCRIPT.py ... --json docs/benchmarks/NAME.json``, then ``make docs``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.records import read_record
from tests.docs.charts import Bar, draw_bars, draw_curves
from tests.docs.markdown import ROOT

RECORDS = ROOT / "docs/benchmarks"
GOALS = "goals.svg"
#: Scripts that measure something else than speed, memory or scores at equal time, and modules that they share.
OTHERS = frozenset(
    {
        "changed_images",
        "clocks",
        "code_size",
        "federated_lgg",
        "interval_coverage",
        "paired_coverage",
        "records",
    }
)
Record = dict[str, Any]
Row = Mapping[str, Any]


def list_scripts() -> list[str]:
    """Return the names of the scripts that measure speed, memory or scores at equal time."""
    return sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in OTHERS)


@cache
def read_records(folder: Path = RECORDS) -> dict[str, Record]:
    """Return the kept records by the name of their file."""
    return {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}


def render_benchmarks() -> str:
    """Return goals and sections, as Markdown."""
    records = read_records()
    parts = ["## Goals", "", *_render_goals(records)]
    for name, record in records.items():
        parts += [f"## {record['title']}", "", *_render_record(name, record)]
    return "\n".join([*parts, *_render_unmeasured(records)]).rstrip()


def render_charts() -> dict[str, str]:
    """Return the charts by the name of their file; a record without ratios has none."""
    records = read_records()
    charts = {}
    claims = [(record, row) for record, row in _list_goals(records) if _is_claim(row)]
    goals = [Bar(f"{record['title']}: {row['what']}", row["ratio"] / row["goal"], 1.0) for record, row in claims]
    if goals:
        charts[GOALS] = draw_bars("Ratio divided by its goal; at 1 the goal is reached", goals)
    for name, record in records.items():
        rows = [row for row in record["rows"] if _is_claim(row)]
        bars = [Bar(f"{row['what']}, {row['peer']}", row["ratio"], row["goal"]) for row in rows]
        if bars:
            charts[f"{name}.svg"] = draw_bars(f"{record['title']}: ratio", bars)
        for number, curve in enumerate(record.get("curves", [])):
            charts[f"{name}_curve{number or ''}.svg"] = draw_curves(curve)
    return charts


def renew_charts(folder: Path = RECORDS) -> list[Path]:
    """Write the charts, and remove those of records that are gone; returns the files that changed."""
    charts = render_charts()
    renewed = []
    for path in sorted({*folder.glob("*.svg"), *(folder / name for name in charts)}):
        wanted = charts.get(path.name)
        if wanted is None:
            path.unlink()
        elif path.is_file() and path.read_text(encoding="utf-8") == wanted:
            continue
        else:
            path.write_text(wanted, encoding="utf-8")
        renewed.append(path)
    return renewed


def _is_claim(row: Row) -> bool:
    return row["counts"] and row["ratio"] is not None


def _list_goals(records: Mapping[str, Record]) -> list[tuple[Record, Row]]:
    return [(record, row) for record in records.values() for row in record["rows"] if row["goal"] is not None]


def _render_goals(records: Mapping[str, Record]) -> Iterator[str]:
    rows = _list_goals(records)
    reached = sum(_judge(row) == "yes" for _, row in rows)
    yield f"{reached} of {len(rows)} goals are reached in the records that are kept."
    yield from ["The bars are the ratios divided by their goals: at 1 a goal is reached.", ""]
    yield from [f"![Ratios divided by their goals](benchmarks/{GOALS})", ""]
    yield from ["| what | peer | ratio | goal | reached |", "|---|---|---|---|---|"]
    for record, row in rows:
        link = f"[{record['title']}](#{_make_anchor(record['title'])}): {row['what']}"
        yield _join(link, row["peer"], _show(row["ratio"], row["spread"]), f"{row['goal']:g}", _judge(row))
    yield ""


def _judge(row: Row) -> str:
    if not row["counts"]:
        return "**no claim**: the accuracy condition failed"
    if row["ratio"] is None:
        return row["note"] or "not measured"
    return "yes" if row["ratio"] >= row["goal"] else "**missed**"


def _render_record(name: str, record: Record) -> Iterator[str]:
    machine = record["machine"]
    threads = f"{machine['threads']} thread" + ("s" if machine["threads"] != 1 else "")
    versions = f"torch {machine['torch']}, MONAI {machine['monai']}"
    yield from [read_purpose(record["script"]), ""]
    if machine.get("huge_pages"):
        threads += ", both sides with huge pages"
    gpu = machine["device"] if machine["device"] != "cpu" else "not measured"
    yield f"`{record['command']}`, {record['measured']}."
    yield f"{machine['processor']}, {machine['cores']} cores, {threads}; {versions}; on a GPU: {gpu}."
    yield f"Values in {record['unit']}."
    yield from ["", "| what | peer | peer's | ours | ratio | goal | accuracy | note |", f"|{'---|' * 8}"]
    for row in record["rows"]:
        ratio = _show(row["ratio"], row["spread"]) if row["counts"] else "does not count"
        goal = "" if row["goal"] is None else f"{row['goal']:g}"
        goal += " (**missed**)" if goal and _judge(row) == "**missed**" else ""
        values = (_show(row["peer_value"]), _show(row["ours"]))
        yield _join(row["what"], row["peer"], *values, ratio, goal, row["accuracy"], row["note"])
    yield ""
    for number, curve in enumerate(record.get("curves", [])):
        yield from [f"![{curve['title']}](benchmarks/{name}_curve{number or ''}.svg)", ""]
    if any(_is_claim(row) for row in record["rows"]):
        yield from [f"![{record['title']}: ratios](benchmarks/{name}.svg)", ""]


def _render_unmeasured(records: Mapping[str, Record]) -> Iterator[str]:
    kept = {record["script"] for record in records.values()}
    missing = [name for name in list_scripts() if name not in kept]
    if missing:
        yield from ["## Not measured yet", "", "No record of these is kept:", ""]
        yield from [f"* `benchmarks/{name}.py`: {read_purpose(name)}" for name in missing]


def read_purpose(script: str) -> str:
    """Return the first sentence of a script's docstring."""
    text = ast.get_docstring(ast.parse((ROOT / f"benchmarks/{script}.py").read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def _make_anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _show(value: float | None, spread: list[float] | None = None) -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text + (f" ({spread[0]:.3g} to {spread[1]:.3g})" if spread else "")


def _join(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
