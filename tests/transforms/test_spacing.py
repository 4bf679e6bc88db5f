"""Spacingd: MONAI's, also for cases to which a client added items."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from monai.transforms import Spacingd as MonaiSpacingd

from pipeline.transforms import Spacingd


@pytest.fixture
def case():
    affine = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    voxels = torch.as_tensor(np.random.default_rng(0).normal(size=(1, 5, 6, 7)), dtype=torch.float32)
    image = MetaTensor(voxels, affine=affine, meta={"filename_or_obj": "/data/a.nii.gz"})
    return {"image": image, "image_path": "/data/a.nii.gz", "image_meta_dict": {"old": 1}, "device": "cpu"}


def test_text_of_a_client_stays(case):
    with pytest.raises(AttributeError, match="update"):
        MonaiSpacingd("image", (2.0, 2.0, 2.0))(case)
    result = Spacingd("image", (2.0, 2.0, 2.0))(case)
    assert {key: result[key] for key in ("image_path", "device")} == {"image_path": "/data/a.nii.gz", "device": "cpu"}
    expected = MonaiSpacingd("image", (2.0, 2.0, 2.0))({"image": case["image"]})["image"]
    torch.testing.assert_close(result["image"].as_tensor(), expected.as_tensor())
    np.testing.assert_array_equal(result["image"].affine, expected.affine)
    assert result["image_meta_dict"]["filename_or_obj"] == "/data/a.nii.gz"


def test_it_is_inverted_as_monais(case):
    chain = Compose([Spacingd("image", (2.0, 2.0, 2.0))])
    result = chain(case)
    result["pred"] = result["image"]
    back = Invertd("pred", chain, orig_keys="image", nearest_interp=False)(result)["pred"]
    assert back.shape == case["image"].shape
    np.testing.assert_allclose(back.affine, case["image"].affine)
