from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.utils import MetaKeys, SpaceKeys

from pipeline.tuning.stored import load_case, save_case


def test_tensors_and_plain_meta_data_come_back(tmp_path: Path) -> None:
    meta = {
        MetaKeys.SPACE: SpaceKeys.RAS,
        "spatial_shape": np.array([3, 2, 1]),
        "slice_paths": "a\nb",
        "pixdim": torch.ones(3),
        "reader": object(),
    }
    pred = MetaTensor(torch.rand(2, 3, 2, 1), affine=torch.diag(torch.tensor([2.0, 1, 1, 1])), meta=meta)
    label = torch.randint(0, 3, (1, 3, 2, 1)).float()
    save_case(tmp_path / "c.pt", {"pred": pred, "label": label, "case_id": "c", "transform": print}, 1.5)
    loaded = load_case(tmp_path / "c.pt")
    assert loaded is not None
    data, seconds = loaded
    assert (seconds, data["case_id"]) == (1.5, "c")
    assert data.keys() == {"pred", "label", "case_id"}
    assert torch.equal(data["pred"].as_tensor(), pred.as_tensor())
    assert torch.equal(data["label"], label)
    assert data["label"].dtype == label.dtype
    assert torch.equal(data["pred"].affine, pred.affine)
    assert data["pred"].meta["spatial_shape"].tolist() == [3, 2, 1]
    assert data["pred"].meta["space"] == "RAS"
    assert data["pred"].meta["slice_paths"] == "a\nb"
    assert "reader" not in data["pred"].meta


def test_a_label_takes_a_byte_a_voxel(tmp_path: Path) -> None:
    sizes = []
    for name, label in (("byte", torch.ones(1, 200, 200)), ("float", torch.full((1, 200, 200), 0.5))):
        save_case(tmp_path / name, {"label": label}, 0)
        sizes.append((tmp_path / name).stat().st_size)
    assert sizes[0] < 200 * 200 * 1.2 < sizes[1]


@pytest.mark.parametrize("values", [[-1.0, 3.0], [0.0, 256.0], [0.0, float("nan")], []])
def test_values_that_no_byte_holds_are_kept_as_they_are(values: list[float], tmp_path: Path) -> None:
    save_case(tmp_path / "c", {"label": torch.tensor(values)}, 0)
    loaded = load_case(tmp_path / "c")
    assert loaded is not None
    assert torch.equal(loaded[0]["label"].nan_to_num(7), torch.tensor(values).nan_to_num(7))


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "foreign", "other version"])
def test_a_file_that_is_not_whole_counts_as_missing(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_case(path, {"pred": torch.rand(1, 50, 50)}, 0)
    if damage == "missing":
        path.unlink()
    elif damage == "foreign":
        torch.save([1, 2], path)
    elif damage == "other version":
        torch.save({"version": 0, "seconds": 0, "data": {}}, path)
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:5000])
    assert load_case(path) is None
