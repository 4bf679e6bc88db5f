"""The table that ends a build."""

from dataclasses import replace

import pytest

from pipeline.datasets.layouts.listing import note, note_names
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.manifests.summary import format_notes, format_summary

MANIFEST = Manifest("x", "segmentation", "CC0", "", {0: "background", 1: "cell"}, {0: 0, 1: 1}, ("grey",), ())


def make(number: int, *, split: str = "train", shape: tuple[int, ...] = (10, 10), **facts: object) -> Case:
    known = {"shape": list(shape), "spacing": [1.0, 0.5], "foreground": 25, **facts}
    return Case(f"c{number}", f"s{number % 2}", (f"{number}.png",), (f"{number}_m.png",), split, facts=known)  # type: ignore[arg-type]


def test_numbers_by_split_and_in_total() -> None:
    cases = (make(0), make(1, foreground=0), make(2, split="test"))
    lines = format_summary(replace(MANIFEST, cases=cases))
    assert [line.split() for line in lines[1:4]] == [
        ["train", "2", "2", "4", "2", "1"],
        ["test", "1", "1", "2", "1", "0"],
        ["all", "3", "2", "6", "3", "1"],
    ]
    assert lines[4:] == ["  shape (voxels): 10 x 10 (3)", "  spacing (mm): 1 x 0.5 (3)", "  labels: cell 16.67%"]


def test_varying_sizes_are_a_range() -> None:
    cases = tuple(make(number, shape=(number, 40 - number)) for number in range(10, 15))
    assert "  shape (voxels): 10 x 26 to 14 x 30, median 12 x 28" in format_summary(replace(MANIFEST, cases=cases))
    mixed = (*cases, make(9, shape=(1, 2, 3)))
    assert "  shape (voxels): 6 different, with 2, 3 axes" in format_summary(replace(MANIFEST, cases=mixed))


def test_shares_of_several_labels() -> None:
    manifest = replace(
        MANIFEST, labels={0: "background", 1: "a", 2: "b"}, cases=(make(0, voxels={"0": 75, "1": 20, "2": 5}),)
    )
    assert format_summary(manifest)[-1] == "  labels: a 20.00%, b 5.00%"


def test_what_is_unknown_is_not_made_up() -> None:
    case = Case("c", "", ("c.png",))
    lines = format_summary(replace(MANIFEST, cases=(case,)))
    assert [line.split() for line in lines[1:]] == [["train", "1", "unknown", "1", "0", "-"]]


def test_notes_are_one_line_each() -> None:
    notes = (note("a-code", "two\nlines", path="x.png", hint="do this"), *note_names("b", "are odd", []))
    assert format_notes(notes) == ["note: a-code x.png: two lines; do this"]


@pytest.mark.parametrize(("names", "text"), [(["b"], "1 file x: b"), (["b", "a"], "2 files x, for example a")])
def test_names_are_counted(names: list[str], text: str) -> None:
    assert note_names("code", "x", names)[0].message == text
