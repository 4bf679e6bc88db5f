"""From a reader's names to digests and facts."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.layouts.building import complete_draft
from pipeline.datasets.layouts.listing import ManifestDraft, list_files
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.issues import InputError

MANIFEST = Manifest(
    "x", "segmentation", "CC0", "", {0: "background", 1: "a", 2: "b"}, {0: 0, 1: 1, 2: 2}, ("grey",), ()
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    mask = np.zeros((4, 6), np.uint8)
    mask[0, :3], mask[1, :2] = 1, 2
    for number in (1, 2):
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(tmp_path / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / f"{number}_mask.png")
    return tmp_path


def complete(folder: Path, manifest: Manifest, **options: object) -> ManifestDraft:
    cases = manifest.cases or tuple(Case(f"c{n}", "", (f"{n}.png",), (f"{n}_mask.png",)) for n in (1, 2))
    published: dict[str, str] = options.pop("published", {})  # type: ignore[assignment]
    listing = list_files(folder, published)
    return complete_draft(ManifestDraft(replace(manifest, cases=cases)), listing, published, **options)  # type: ignore[arg-type]


def test_facts_and_digests(folder: Path) -> None:
    case = complete(folder, MANIFEST).manifest.cases[0]
    assert case.facts == {
        "shape": [4, 6],
        "dtype": "uint8",
        "spacing": None,
        "foreground": 5,
        "voxels": {"0": 19, "1": 3, "2": 2},
    }
    assert case.sha256["1.png"] == hashlib.sha256((folder / "1.png").read_bytes()).hexdigest()


def test_what_the_reader_knows_wins(folder: Path) -> None:
    cases = (
        Case("c", "", ("1.png",), ("1_mask.png",), facts={"spacing": [0.5, 0.5], "sequence": "01", "group": None}),
    )
    facts = complete(folder, replace(MANIFEST, cases=cases)).manifest.cases[0].facts
    assert (facts["spacing"], facts["sequence"], facts["group"]) == ([0.5, 0.5], "01", None)


def test_a_stack_has_a_depth_and_channels_have_none(folder: Path) -> None:
    case = Case("c", "", ("1.png", "2.png"), ("1_mask.png",))
    stack, channels = (
        complete(folder, replace(MANIFEST, cases=(case,), stacking=kind)).manifest.cases[0].facts["shape"]
        for kind in ("slices", "channels")
    )
    assert (stack, channels) == ([4, 6, 2], [4, 6])


def test_ignored_and_binarised_values_are_no_foreground(folder: Path) -> None:
    ignoring = complete(folder, replace(MANIFEST, ignore_index=2)).manifest.cases[0].facts
    assert (ignoring["foreground"], ignoring["voxels"]) == (3, {"0": 19, "1": 3})
    two = {0: "background", 1: "a"}
    lossy = complete(folder, replace(MANIFEST, labels=two, mask_values={}, binarize=2)).manifest.cases[0].facts
    assert lossy["foreground"] == 2


def test_instances_are_not_counted_by_id(folder: Path) -> None:
    facts = complete(folder, replace(MANIFEST, mask_type="instance", mask_values={})).manifest.cases[0].facts
    assert facts["foreground"] == 5
    assert "voxels" not in facts


def test_progress_sees_every_case(folder: Path) -> None:
    seen = []
    complete(folder, MANIFEST, progress=lambda stream, total: [seen.append(total), *stream][1:])
    assert seen == [2]


def test_no_case_left_is_an_error(folder: Path) -> None:
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"no case is left: empty-file 1.png \[c1\]: the file holds 0 bytes \(and 1 more\)"
    ):
        complete(folder, MANIFEST, skip_broken=True)


def test_a_file_that_cannot_be_opened_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("pipeline.datasets.layouts.building.read_file", refuse)
    with pytest.raises(InputError, match=r"unreadable-file 1.png \[c1\]: input/output error \(and 3 more\)"):
        complete(folder, MANIFEST)
