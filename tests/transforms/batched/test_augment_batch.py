"""AugmentBatch: every image gets what MONAI's transform gives a single case, image and label stay aligned."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    ConcatItemsd,
    DeleteItemsd,
    Lambdad,
    Rand2DElasticd,
    RandAdjustContrastd,
    RandAffined,
    RandCoarseDropoutd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    RandZoomd,
    ResizeWithPadOrCropd,
    SqueezeDimd,
)

from pipeline.issues import InputError
from pipeline.transforms import AugmentBatch, NeighbourSlicesToChannelsd, RandCopyChanneld, RandGammaByChanneld

BOTH = ["image", "label"]
SMOOTH = {"sigma_x": [0.5, 1.5], "sigma_y": [0.5, 1.5], "sigma_z": [0.01, 0.9]}
ELASTIC = {"spacing": [20, 20], "magnitude_range": [3, 3], "rotate_range": 3.14, "scale_range": [0.2, 0.2]}
HOLES = {"holes": 1, "max_holes": 4, "spatial_size": 6, "max_spatial_size": 12}
PLANE, CUBE = (3, 40, 51), (2, 18, 22, 15)


def affine(padding="reflection", prob=0.7, dimensions=2, modes=("bilinear", "nearest")):
    return RandAffined(
        BOTH,
        prob=prob,
        rotate_range=[0.6] * (1 if dimensions == 2 else 3),
        scale_range=[0.25] * dimensions,
        shear_range=[0.1] * dimensions,
        translate_range=[5] * dimensions,
        mode=modes,
        padding_mode=padding,
    )


STEPS = {
    "affine, reflection": (PLANE, [affine()]),
    "affine, border": (PLANE, [affine("border")]),
    "affine, zeros": (PLANE, [affine("zeros")]),
    "affine, flips": (PLANE, [affine(), RandFlipd(BOTH, 0.5, 0), RandFlipd(BOTH, 0.5, 1)]),
    "flip, affine, affine": (PLANE, [RandFlipd(BOTH, 0.5), affine(), affine("border")]),
    "flip of the image, then affine of both": (PLANE, [RandFlipd("image", 0.5, 1), affine()]),
    "flips": (PLANE, [RandFlipd(BOTH, 0.5, [0, 1]), RandFlipd(BOTH, 0.5, -1)]),
    "affine, spline": (PLANE, [affine("nearest", modes=(3, 0))]),
    "affine, volume, reflection": (CUBE, [affine(dimensions=3)]),
    "affine, volume, border": (CUBE, [RandFlipd(BOTH, 0.5, 0), affine("border", dimensions=3)]),
    "affine, volume, zeros": (CUBE, [affine("zeros", dimensions=3)]),
    "elastic": (PLANE, [Rand2DElasticd(BOTH, prob=0.8, mode=["bilinear", "nearest"], **ELASTIC)]),
    "scale": (PLANE, [RandScaleIntensityd("image", 0.3, prob=0.5)]),
    "scale by channel": (PLANE, [RandScaleIntensityd("image", 0.3, prob=0.5, channel_wise=True)]),
    "shift": (PLANE, [RandShiftIntensityd("image", 0.3, prob=0.5)]),
    "shift by channel": (CUBE, [RandShiftIntensityd("image", 0.3, prob=0.5, channel_wise=True)]),
    "gamma": (PLANE, [RandAdjustContrastd("image", prob=0.7, gamma=[0.7, 1.5])]),
    "gamma, statistics": (CUBE, [RandAdjustContrastd("image", 0.7, [0.7, 1.5], retain_stats=True)]),
    "gamma, inverted": (PLANE, [RandAdjustContrastd("image", 0.7, [0.7, 1.5], invert_image=True)]),
    "gamma by channel": (PLANE, [RandGammaByChanneld("image", gamma=[0.6, 1.7], prob=0.5)]),
    "copied channels": (PLANE, [RandCopyChanneld("image", source=1, targets=[0, 2], prob=0.5)]),
    "smooth": (PLANE, [RandGaussianSmoothd("image", prob=0.6, **SMOOTH)]),
    "smooth volume": (CUBE, [RandGaussianSmoothd("image", prob=0.6, **SMOOTH)]),
    "dropout": (PLANE, [RandCoarseDropoutd("image", prob=0.6, **HOLES)]),
    "dropout, value": (PLANE, [RandCoarseDropoutd("image", prob=0.6, fill_value=7, **HOLES)]),
    "dropout, range": (PLANE, [RandCoarseDropoutd("image", prob=0.6, fill_value=(0, 2), **HOLES)]),
    "all but the holes": (PLANE, [RandCoarseDropoutd("image", prob=0.6, dropout_holes=False, **HOLES)]),
    "centre": (CUBE, [CenterSpatialCropd(BOTH, [9, 8, -1])]),
    "neighbours": (CUBE, [NeighbourSlicesToChannelsd("image", only_centre=True)]),
    "slice": (CUBE, [CenterSpatialCropd(BOTH, [-1, -1, 1]), SqueezeDimd(BOTH, dim=-1), affine()]),
    "one by one": (PLANE, [RandZoomd(BOTH, prob=0.5, mode=["bilinear", "nearest"])]),
    "all kinds": (
        PLANE,
        [
            affine(),
            RandFlipd(BOTH, 0.5, 1),
            RandScaleIntensityd("image", 0.3, prob=0.5),
            RandShiftIntensityd("image", 0.3, prob=0.5),
            RandAdjustContrastd("image", prob=0.5),
            RandGaussianSmoothd("image", prob=0.5, **SMOOTH),
            RandCoarseDropoutd("image", prob=0.5, **HOLES),
        ],
    ),
}


def make_cases(shape, count=8):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, *shape, generator=generator)
    return [{"image": image, "label": (image[:1] > 0.4).float()} for image in images]


def stack(cases):
    return {key: torch.stack([torch.as_tensor(case[key]).as_subclass(torch.Tensor) for case in cases]) for key in BOTH}


def augment_one_by_one(steps, cases, seed=5):
    chain = Compose(deepcopy(steps)).set_random_state(seed)
    return stack([chain({key: value.clone() for key, value in case.items()}) for case in cases])


@pytest.mark.parametrize("as_on_a_gpu", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_a_batch_gets_what_monai_gives_each_case(name, as_on_a_gpu):
    shape, steps = STEPS[name]
    cases = make_cases(shape)
    expected = augment_one_by_one(steps, cases)
    ours = AugmentBatch(deepcopy(steps)).set_random_state(5)
    image, label = ours._augment(stack(cases)) if as_on_a_gpu else ours(stack(cases), "cpu")
    torch.testing.assert_close(image, expected["image"].float(), atol=2e-3, rtol=0)
    assert (image - expected["image"]).abs().mean() < 2e-5
    assert torch.equal(label, expected["label"].float())
    if image.shape == (len(cases), *shape):  # it did something, and each time something else
        changes = {float((one - case["image"]).abs().sum()) for one, case in zip(image, cases, strict=True)}
        assert len(changes) > 2


@pytest.mark.parametrize("shape", [PLANE, CUBE])
@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
def test_image_and_label_stay_aligned(shape, padding):
    step = affine(padding, prob=1, dimensions=len(shape) - 1, modes=("nearest", "nearest"))
    cases = make_cases((1, *shape[1:]))
    batch = stack([{"image": case["label"], "label": case["label"]} for case in cases])
    image, label = AugmentBatch([step]).set_random_state(1)(batch, "cpu")
    assert torch.equal(image, label)
    assert not torch.equal(image, batch["image"])


def test_random_numbers_do_not_depend_on_the_size_of_the_batch():
    shape, steps = STEPS["all kinds"]
    cases = make_cases(shape, count=6)
    whole = AugmentBatch(deepcopy([*steps, RandGaussianNoised("image", prob=0.5)])).set_random_state(2)
    parts = deepcopy(whole)
    first = whole(stack(cases), "cpu")[0]
    second = torch.cat([parts(stack(cases[start : start + 2]), "cpu")[0] for start in (0, 2, 4)])
    assert torch.equal(first, second)


def test_noise_has_the_spread_that_was_asked_for_and_follows_the_seed():
    zeros = {"image": torch.zeros(4, 1, 64, 64), "label": torch.zeros(4, 1, 64, 64)}
    noise = AugmentBatch([RandGaussianNoised("image", prob=1, mean=2, std=0.5, sample_std=False)])
    first, other = (noise.set_random_state(seed)(zeros, "cpu")[0] for seed in (1, 2))
    again = noise.set_random_state(1)(zeros, "cpu")[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({one.sum().item() for one in first}) == 4
    assert first.mean().item() == pytest.approx(2, abs=0.02)
    assert first.std().item() == pytest.approx(0.5, abs=0.02)
    sampled = AugmentBatch([RandGaussianNoised("image", prob=0.5, std=0.5)]).set_random_state(1)
    spreads = [one.std().item() for _ in range(5) for one in sampled(zeros, "cpu")[0]]
    assert 0 in spreads
    assert max(spreads) < 0.55
    assert len(set(spreads)) > 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.uint8, torch.float32])
def test_the_batch_of_the_loader_is_not_changed(dtype):
    image = torch.arange(2 * 3 * 8 * 8).reshape(2, 3, 8, 8).to(dtype)
    batch = {"image": image, "label": (image[:, :1] > 5).to(torch.uint8), "case_id": ["a", "b"]}
    before = deepcopy(batch)
    steps = [
        RandFlipd(BOTH, 1),
        RandShiftIntensityd("image", (1, 2), prob=1),
        RandCoarseDropoutd("image", 1, 3, prob=1),
    ]
    found, label = AugmentBatch(steps)(batch, "cpu")
    assert torch.equal(batch["image"], before["image"])
    assert torch.equal(batch["label"], before["label"])
    assert found.dtype == label.dtype == torch.float32
    assert not torch.equal(found, before["image"].float())


def test_without_steps_the_batch_is_only_moved():
    image, label = AugmentBatch([])({"image": torch.ones(2, 1, 4, 4).half(), "label": torch.ones(2, 1, 4, 4)}, "cpu")
    assert image.dtype == label.dtype == torch.float32
    assert image.sum() == label.sum() == 32


def test_a_constant_image_survives_gamma():
    flat = {"image": torch.full((2, 2, 5, 5), 3.0), "label": torch.zeros(2, 1, 5, 5)}
    for step in (RandGammaByChanneld("image", prob=1.0), RandAdjustContrastd("image", prob=1, retain_stats=True)):
        image, _ = AugmentBatch([step])(flat, "cpu")
        torch.testing.assert_close(image, flat["image"])


def test_further_items_take_part_and_steps_may_add_and_remove_items():
    weight = torch.rand(3, 1, 12, 12)
    batch = {"image": weight.repeat(1, 2, 1, 1), "label": (weight > 0.5).float(), "weight": weight}
    steps = [
        RandFlipd([*BOTH, "weight"], prob=1, spatial_axis=0),
        ConcatItemsd(["label", "weight"], "label"),
        DeleteItemsd("weight"),
    ]
    image, label = AugmentBatch(steps)(batch, "cpu")
    assert torch.equal(label, torch.cat([batch["label"], weight], dim=1).flip(2))
    assert torch.equal(image, batch["image"].flip(2))


def test_cases_of_different_shapes_are_refused():
    ours, batch = AugmentBatch([RandSpatialCropd(BOTH, [2, 2], random_size=True)]), stack(make_cases(PLANE))
    ours.set_random_state(0)
    with pytest.raises(InputError, match=r"train#augmentation gives the item 'image' of one batch the shapes \(3, "):
        ours(batch, "cpu")
    ours = AugmentBatch([*ours.transforms.transforms, ResizeWithPadOrCropd(BOTH, [20, 20])])  # what the message says
    assert ours(batch, "cpu")[0].shape == (8, 3, 20, 20)


def test_a_subclass_that_does_something_else_is_asked_itself():
    class Negative(RandFlipd):
        def __call__(self, data, lazy=None):
            return {**data, "image": -data["image"]}

    batch = stack(make_cases(PLANE, count=2))
    image, label = AugmentBatch([Negative(BOTH, 1), Lambdad("label", lambda label: 1 - label)])(batch, "cpu")
    assert torch.equal(image, -batch["image"])
    assert torch.equal(label, 1 - batch["label"])


def test_large_volumes_have_exact_indices():
    from pipeline.transforms.batched.sampling import _find_indices

    shape = (3, 5000, 5000)  # more than float32 can count
    index = _find_indices([torch.tensor([2.0]), torch.tensor([4999.0]), torch.tensor([4998.0])], shape)
    assert index.tolist() == [int(np.ravel_multi_index((2, 4999, 4998), shape))]
