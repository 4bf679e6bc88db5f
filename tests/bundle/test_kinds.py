from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bundle.dataset import UserDataset
from pipeline.bundle.kinds import Kind, find_kind, find_kind_of_data, is_fit, require_fit
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.issues import InputError
from tests.bundle.conftest import BUNDLES, ROOT, read_json
from tests.bundles.conftest import BUNDLES as SUITE

KINDS = {
    "lgg": Kind("stacks"),
    "isic": Kind("pictures"),
    "braintumor": Kind("pictures"),
    "hippocampus": Kind("volumes"),
    "u373": Kind("pictures", objects=True),
}
SOURCES = SUITE


@pytest.mark.parametrize("bundle", SOURCES, ids=[path.name for path in SOURCES])
def test_kind_of_every_bundle(bundle: Path) -> None:
    train = read_json(bundle / "configs/train.json")
    assert find_kind(train) == KINDS[bundle.name.split("_")[0]]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("lgg", Kind("stacks")), ("u373", Kind("pictures", objects=True)), ("hippocampus", Kind("volumes"))],
)
def test_kind_of_the_committed_manifests(name: str, kind: Kind) -> None:
    assert find_kind_of_data(read_manifest(ROOT / f"data_manifests/{name}.json")) == kind


def test_a_bundle_without_a_loader_has_no_kind() -> None:
    with pytest.raises(InputError, match="neither LoadImaged nor LoadImageStackd"):
        find_kind({"network_def": {"_target_": "UNet", "spatial_dims": 2}})


def change(manifest: Manifest, *files: str, shape: list[int] | None = None, **fields: object) -> Manifest:
    case = Case("a", "", files, label=("m.png",), facts={"shape": shape})
    return replace(manifest, cases=(case,), **fields)  # type: ignore[arg-type]


def test_kinds_of_data(grey: UserDataset) -> None:
    manifest = grey.manifest
    assert find_kind_of_data(change(manifest, "a.png")).shape == "pictures"
    assert find_kind_of_data(change(manifest, "a.png", "b.png")).shape == "stacks"
    assert find_kind_of_data(change(manifest, "a.nii.gz", shape=[3, 4, 5])).shape == "volumes"
    assert find_kind_of_data(change(manifest, "a.nii.gz", shape=[3, 4])).shape == "other"
    assert find_kind_of_data(change(manifest, "a.nii.gz", "b.nii.gz")).shape == "other"
    assert find_kind_of_data(change(manifest, "a.png", "b.nii")).shape == "other"
    assert find_kind_of_data(change(manifest, "a.dcm", "b.dcm", stacking="series")).shape == "series"
    assert find_kind_of_data(change(manifest, "a.nii", "b.nii", stacking="channels")).shape == "channels"
    assert find_kind_of_data(change(manifest, "a.png", "b.png", stacking="channels")).shape == "channels"
    assert find_kind_of_data(change(manifest, "a.tif", mask_type="instance")) == Kind("pictures", objects=True)


def test_what_fits() -> None:
    stacks, pictures, volumes = Kind("stacks"), Kind("pictures"), Kind("volumes")
    assert is_fit(stacks, pictures)
    assert is_fit(stacks, stacks)
    assert is_fit(pictures, pictures)
    assert is_fit(pictures, pictures, drawn=True)
    assert is_fit(volumes, volumes)
    assert not is_fit(stacks, pictures, drawn=True)
    assert not is_fit(pictures, stacks)
    assert not is_fit(volumes, pictures)
    assert not is_fit(pictures, Kind("pictures", objects=True))
    assert not is_fit(Kind("pictures", objects=True), pictures)


def test_data_of_another_kind_are_refused_with_what_fits(volumes: UserDataset) -> None:
    with pytest.raises(InputError) as caught:
        require_fit("cells", Kind("pictures"), volumes.manifest, Path("my.json"), [BUNDLES, Path("nowhere")])
    text = str(caught.value)
    expected = "cells is for single pictures, but my.json lists volumes (NIfTI, MetaImage, NRRD); bundles that fit: "
    assert expected in text
    assert "hippocampus_segresnet" in text
    assert "lgg" not in text
    assert text.endswith("templates that fit: volumes")


def test_where_nothing_fits(grey: UserDataset, tmp_path: Path) -> None:
    (tmp_path / "broken/configs").mkdir(parents=True)
    drawn = replace(grey.manifest, coco={"categories": {}})
    with pytest.raises(InputError, match="stacks of slices or single pictures, but") as caught:
        require_fit("brains", Kind("stacks"), drawn, Path("my.json"), [tmp_path])
    assert str(caught.value).endswith(
        "single pictures, with masks drawn from COCO annotations; templates that fit: pictures"
    )
