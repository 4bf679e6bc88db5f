"""A manifest's content as a table: cases, subjects, splits, shapes, spacings, shares of labels."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from math import prod

from pipeline.datasets.manifests.manifest import SPLITS, Case, Manifest
from pipeline.issues import Issue

_SHOWN = 3


def format_summary(manifest: Manifest) -> list[str]:
    """Return the lines of a summary: counts by split, then sizes, voxel sizes and the share of each label."""
    parts = [(split, [case for case in manifest.cases if case.split == split]) for split in SPLITS]
    rows = [["split", "cases", "subjects", "files", "with mask", "empty masks"]]
    rows += [_count(name, cases) for name, cases in parts if cases]
    if len(rows) > 2:
        rows.append(_count("all", manifest.cases))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  " + "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return [*lines, *_describe_facts(manifest)]


def _count(name: str, cases: Sequence[Case]) -> list[str]:
    known = [case.facts["foreground"] for case in cases if case.facts.get("foreground") is not None]
    return [
        name,
        str(len(cases)),
        str(len({case.subject_key() for case in cases})) if any(case.subject for case in cases) else "unknown",
        str(len({file for case in cases for file in case.files()})),
        str(sum(case.label is not None for case in cases)),
        str(sum(not number for number in known)) if known else "-",
    ]


def _describe_facts(manifest: Manifest) -> Iterator[str]:
    for key, unit in (("shape", "voxels"), ("spacing", "mm")):
        values = [case.facts[key] for case in manifest.cases if case.facts.get(key)]
        if values:
            yield f"  {key} ({unit}): {_describe_sizes(values)}"
    shares = _label_shares(manifest)
    if shares:
        yield "  labels: " + ", ".join(f"{name} {share:.2%}" for name, share in shares.items())


def _describe_sizes(values: Sequence[Sequence[float]]) -> str:
    """Return the commonest sizes, or smallest, median and largest along each axis where they vary."""
    counts = Counter(tuple(value) for value in values)
    if len(counts) <= _SHOWN:
        return ", ".join(f"{_size(size)} ({number})" for size, number in counts.most_common())
    lengths = {len(value) for value in values}
    if len(lengths) > 1:
        return f"{len(counts)} different, with {', '.join(map(str, sorted(lengths)))} axes"
    axes = [sorted(axis) for axis in zip(*values, strict=True)]
    low, middle, high = ([axis[i] for axis in axes] for i in (0, len(values) // 2, -1))
    return f"{_size(low)} to {_size(high)}, median {_size(middle)}"


def _size(lengths: Iterable[float]) -> str:
    return " x ".join(f"{length:g}" for length in lengths)


def _label_shares(manifest: Manifest) -> dict[str, float]:
    known = [c.facts for c in manifest.cases if c.facts.get("foreground") is not None and c.facts.get("shape")]
    total = sum(prod(facts["shape"]) for facts in known)
    if not total:
        return {}
    voxels: Counter[str] = Counter()
    for facts in known:
        voxels.update(facts.get("voxels") or {"foreground": facts["foreground"]})
    names = {str(label): name for label, name in manifest.labels.items()}
    if len(manifest.labels) == 2:
        names["foreground"] = next(name for label, name in manifest.labels.items() if label != 0)
    return {names.get(key, key): number / total for key, number in sorted(voxels.items()) if key != "0"}


def format_notes(notes: Iterable[Issue]) -> list[str]:
    """Return a reader's notes, one line each."""
    return ["note: " + note.one_line().removeprefix(f"{note.severity} ") for note in notes]
