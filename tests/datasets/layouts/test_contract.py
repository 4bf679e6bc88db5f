"""What every layout promises: its phantom is read back, passes the deep check, and leaks nothing when it is split."""

import shutil
from pathlib import Path

import pytest

from pipeline.commands.cli import main
from pipeline.datasets import phantoms, read_manifest
from pipeline.datasets.checks.integrity import check_manifest
from pipeline.datasets.datalist import load_datalist
from pipeline.datasets.layouts import LAYOUTS, read_layout
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import dump_manifest
from pipeline.issues import InputError

# Options of phantoms that are large by default.
SMALL = {"lgg": {"size": 64}}
DRAWN = [name for name, layout in LAYOUTS.items() if layout.phantom]


@pytest.fixture(scope="module", params=DRAWN)
def phantom(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """Layout, folder of the phantom's dataset, and its manifest; shared by the tests, so never changed."""
    folder = tmp_path_factory.mktemp(request.param)
    layout = LAYOUTS[request.param]
    manifest: Path = getattr(phantoms, layout.phantom)(folder, **{layout.unit: 6}, **SMALL.get(request.param, {}))
    roots = [path for path in folder.iterdir() if path.is_dir()]
    assert len(roots) == 1, "a phantom is one dataset folder beside its manifest and truth"
    return request.param, roots[0], manifest


def test_every_layout_has_a_phantom() -> None:
    assert list(LAYOUTS) == DRAWN


def test_the_phantom_passes_the_deep_check(phantom: tuple[str, Path, Path]) -> None:
    _, root, path = phantom
    report = check_manifest(read_manifest(path), root, level="deep")
    assert report.errors() == []


def test_the_phantom_is_read_back(phantom: tuple[str, Path, Path]) -> None:
    name, root, path = phantom
    built, given = read_layout(name, root).manifest, read_manifest(path)
    assert {case.case_id for case in built.cases} >= {case.case_id for case in given.cases}
    ours = {case.case_id: case for case in built.cases}
    for case in given.cases:
        again = ours[case.case_id]
        assert (again.image, again.label, again.sha256) == (case.image, case.label, case.sha256)
        assert (again.subject, dict(again.facts)) == (case.subject, dict(case.facts))


def test_building_is_deterministic_and_writes_nothing_into_the_dataset(phantom: tuple[str, Path, Path]) -> None:
    name, root, _ = phantom
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*"))
    texts = {dump_manifest(read_layout(name, root).manifest) for _ in range(2)}
    assert len(texts) == 1
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*")) == before


def test_facts_are_measured(phantom: tuple[str, Path, Path]) -> None:
    name, root, _ = phantom
    for case in read_layout(name, root).manifest.cases:
        assert case.facts["shape"]
        assert case.facts["dtype"]
        assert set(case.sha256) == set(case.files())
        if case.label is not None:
            assert case.facts["foreground"] is not None


def test_commands_from_folder_to_datalist(phantom: tuple[str, Path, Path], tmp_path: Path) -> None:
    name, root, _ = phantom
    copy = tmp_path / "a dataset with ünïcode"
    shutil.copytree(root, copy)
    clutter = [copy / "._x.nii.gz", copy / ".DS_Store", next(path for path in copy.rglob("*") if path.is_file())]
    for path in (*clutter[:2], clutter[2].with_name("._" + clutter[2].name)):
        path.write_bytes(b"not an image")
    manifest = tmp_path / "m.json"
    assert main(["dataset", "build", name, str(copy), "-o", str(manifest)]) == 0
    assert main(["dataset", "check", str(manifest), "--dataset_dir", str(copy), "--deep"]) == 0
    built = read_manifest(manifest)
    assert not any("._" in path or ".DS_Store" in path for case in built.cases for path in case.files())
    _require_disjoint(built)
    for split in ("train", "val", "test"):
        cases = [case for case in built.cases if case.split == split]
        if cases:
            items = load_datalist(manifest, copy, split, None)  # type: ignore[arg-type]
            assert [item["case_id"] for item in items] == [case.case_id for case in cases]


def _require_disjoint(manifest: Manifest) -> None:
    parts: dict[str, set[str]] = {}
    for case in manifest.cases:
        parts.setdefault(case.subject_key(), set()).add(case.split)
    assert all(len(splits) == 1 for splits in parts.values())


def test_another_folder_is_refused_in_one_line(phantom: tuple[str, Path, Path], tmp_path: Path) -> None:
    name, _, _ = phantom
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.txt").write_text("x")
    with pytest.raises(InputError) as caught:
        read_layout(name, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "expected" in str(caught.value) or "is this" in str(caught.value)
