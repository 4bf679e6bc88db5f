"""Random steps after a crop never reach the cached item, and compute what they compute on a copy of it."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import (
    Compose,
    Flipd,
    Lambdad,
    RandCoarseDropoutd,
    RandCropByLabelClassesd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandRotate90d,
    RandScaleCropd,
    RandSpatialCropd,
    RandSpatialCropSamplesd,
    RandWeightedCropd,
    Spacingd,
)

from pipeline.transforms import ComposeFromCache
from tests.cached_items import Watch

KEYS = ["image", "label"]
SIZE = (6, 5, 4)


def crop(size: tuple[int, ...]) -> list[Any]:
    """List one of each of MONAI's random crops."""
    labelled = {"label_key": "label", "spatial_size": size}
    return [
        RandSpatialCropd(KEYS, roi_size=size, random_size=False),
        RandScaleCropd(KEYS, roi_scale=[side / full for side, full in zip(size, SIZE, strict=True)]),
        RandSpatialCropSamplesd(KEYS, roi_size=size, num_samples=2, random_size=False),
        RandWeightedCropd(KEYS, w_key="label", spatial_size=size, num_samples=2),
        RandCropByPosNegLabeld(KEYS, **labelled, num_samples=2),
        RandCropByLabelClassesd(KEYS, **labelled, num_classes=2, num_samples=2),
    ]


CROPS = [pytest.param(step, id=type(step).__name__) for step in crop((3, 5, 2))]
WHOLE = [pytest.param(step, id=f"{type(step).__name__}, whole") for step in crop(SIZE)]


def write_ones(image: torch.Tensor) -> torch.Tensor:
    """Write into the input, as a careless transform may."""
    image[:] = 1
    return image


WRITERS = [
    RandFlipd(KEYS, prob=0),
    Lambdad(KEYS, func=write_ones),
    RandCoarseDropoutd(KEYS, holes=1, spatial_size=2, fill_value=9, prob=1),
    RandFlipd(KEYS, prob=0.5),
    RandRotate90d(KEYS, prob=1, spatial_axes=(0, 1)),
]
DROPOUT = WRITERS[2]


def make_item() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    meta = {"pixdim": np.array([1.0, 2, 2, 2, 0, 0, 0, 0]), "filename_or_obj": "a.nii.gz"}
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1]))
    label = np.zeros((1, *SIZE), np.float32)
    label[:, 2:4, 1:4, 1:3] = 1
    return {
        "image": MetaTensor(torch.tensor(rng.random((2, *SIZE), np.float32)), affine=affine, meta=deepcopy(meta)),
        "label": MetaTensor(torch.tensor(label), affine=affine.clone(), meta=deepcopy(meta)),
        "case_id": "a",
        "points": np.arange(3),
    }


def make_dataset(compose: Any, *steps: Any, **options: Any) -> CacheDataset:
    dataset = CacheDataset([make_item()], compose(deepcopy([Flipd(KEYS, 0), *steps])), progress=False, **options)
    dataset.transform.set_random_state(seed=3)
    return dataset


@pytest.mark.parametrize("step", [*CROPS, *WHOLE, RandFlipd(KEYS, prob=0), DROPOUT])
def test_no_step_changes_the_cache(step: Any) -> None:
    dataset = make_dataset(ComposeFromCache, step, *WRITERS, copy_cache=False)
    watch = Watch(dataset._cache)
    for _ in range(5):
        dataset[0]
    assert watch.list_changes() == []
    careless = make_dataset(Compose, step, *WRITERS, copy_cache=False)
    watch = Watch(careless._cache)
    for _ in range(5):
        careless[0]
    assert watch.list_changes(), "what is prevented"


@pytest.mark.parametrize("step", CROPS)
def test_the_result_is_that_of_a_copied_cache(step: Any) -> None:
    rest = (RandFlipd(KEYS, prob=0.5), Spacingd(KEYS, pixdim=(1, 2, 2)), DROPOUT)
    ours = make_dataset(ComposeFromCache, step, *rest, copy_cache=False)
    theirs = make_dataset(Compose, step, *rest)
    for _ in range(4):
        assert_same(ours[0], theirs[0])


def list_results(result: Any) -> list[dict[str, Any]]:
    return [result] if isinstance(result, dict) else list(result)


def assert_same(ours: Any, theirs: Any) -> None:
    """Compare pixels, affines and the names of applied operations."""
    for one, other in zip(list_results(ours), list_results(theirs), strict=True):
        assert one.keys() == other.keys()
        for key in KEYS:
            assert torch.equal(one[key].as_tensor(), other[key].as_tensor())
            assert torch.equal(one[key].affine, other[key].affine)
            assert [step["class"] for step in one[key].applied_operations] == [
                step["class"] for step in other[key].applied_operations
            ]


def test_a_crop_is_copied_and_not_what_it_was_cut_from() -> None:
    dataset = make_dataset(ComposeFromCache, RandSpatialCropd(KEYS, roi_size=(2, 2, 2)), copy_cache=False)
    image = dataset[0]["image"]
    assert image.untyped_storage().nbytes() == image.numel() * image.element_size()


def test_items_that_are_not_cached_stay_as_they_are_too() -> None:
    items = [make_item()]
    watch = Watch(items)
    dataset = CacheDataset(items, ComposeFromCache([DROPOUT]), cache_rate=0, copy_cache=False, progress=False)
    assert dataset[0]["image"].max() == 9
    assert watch.list_changes() == []


def test_a_chain_without_random_steps_or_without_any() -> None:
    assert make_dataset(ComposeFromCache)[0]["case_id"] == "a"
    assert ComposeFromCache([])({"a": 1}) == {"a": 1}
    assert ComposeFromCache([RandSpatialCropd("image", roi_size=[2, 2, 2])])(make_item())["image"].shape[0] == 2
