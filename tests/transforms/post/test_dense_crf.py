"""DenseCRF: the CRF as a transform of probabilities and image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from pipeline.crf import mean_field
from pipeline.transforms import DenseCRF, DenseCRFd

OPTIONS = {
    "spatial_weight": 2.0,
    "spatial_width": 1.5,
    "bilateral_weight": 4.0,
    "bilateral_width": 6.0,
    "bilateral_intensity": 13.0,
    "iterations": 3,
}


def make_case(labels: int, *grid: int, channels: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noisy probabilities (L, *grid) of a bright half, and its image (C, *grid) of 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    bright = torch.zeros(grid)
    bright[grid[0] // 2 :] = 1
    logits = torch.randn(labels, *grid, generator=generator)
    logits[-1] += 2 * bright
    image = 100 * bright + 60 + 4 * torch.randn(channels, *grid, generator=generator)
    return logits.softmax(0), image


def infer(prob: torch.Tensor, image: torch.Tensor, **more: object) -> torch.Tensor:
    options = {**OPTIONS, **more}
    return torch.from_numpy(mean_field(prob.numpy(), np.moveaxis(image.numpy(), 0, -1), **options))


@pytest.mark.parametrize(("labels", "grid", "channels"), [(2, (9, 8), 3), (4, (9, 8), 1), (3, (6, 7, 5), 2)])
def test_it_is_the_mean_field_of_the_image(labels: int, grid: tuple[int, ...], channels: int) -> None:
    prob, image = make_case(labels, *grid, channels=channels)
    refined = DenseCRF(**OPTIONS)(prob, image)
    assert torch.equal(refined, infer(prob, image))
    assert (refined - prob).abs().max() > 0.1
    index = DenseCRF(**OPTIONS, argmax=True)(prob, image)
    assert torch.equal(index, refined.argmax(0, keepdim=True).float())


def test_one_channel_is_the_foregrounds_probability() -> None:
    prob, image = make_case(2, 9, 8)
    foreground = prob[1:]
    refined = DenseCRF(**OPTIONS)(foreground, image)
    torch.testing.assert_close(refined, infer(prob, image)[1:])
    assert refined.shape == foreground.shape
    mask = DenseCRF(**OPTIONS, argmax=True)(foreground, image)
    assert torch.equal(mask, (refined >= 0.5).float())
    assert 0 < mask.sum() < mask.numel()


def test_one_channel_at_exactly_half_is_foreground() -> None:
    """As a threshold of 0.5 has it."""
    half = torch.full((1, 3, 3), 0.5)
    assert DenseCRF(iterations=0, argmax=True)(half, torch.zeros(1, 3, 3)).min() == 1


def test_a_border_moves_to_the_images_edge() -> None:
    image = torch.zeros(3, 12, 12)
    image[:, :, 6:] = 200
    prob = torch.full((1, 12, 12), 0.2)
    prob[..., 4:] = 0.7  # two columns too far
    mask = DenseCRF(bilateral_width=10, argmax=True)(prob, image)[0]
    assert mask[:, 6:].min() == 1
    assert mask[:, :6].max() == 0


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("labels", [1, 3])
def test_slices_one_by_one(axis: int, labels: int) -> None:
    prob, image = make_case(max(labels, 2), 6, 7, 5)
    prob = prob[1:] if labels == 1 else prob
    refined = DenseCRF(**OPTIONS, slice_axis=axis)(prob, image)
    dim = axis % 3 + 1
    for index in range(prob.shape[dim]):
        alone = DenseCRF(**OPTIONS)(prob.select(dim, index), image.select(dim, index))
        assert torch.equal(refined.select(dim, index), alone)
    assert not torch.allclose(refined, DenseCRF(**OPTIONS)(prob, image), atol=1e-3)


def test_widths_in_mm() -> None:
    prob, image = make_case(2, 6, 7, 5)
    located = MetaTensor(prob, affine=torch.diag(torch.tensor([0.5, 0.5, 3.0, 1.0])))
    refined = DenseCRF(**OPTIONS, use_spacing=True)(located, image).as_tensor()
    assert torch.equal(refined, infer(prob, image, spacing=(0.5, 0.5, 3.0)))
    voxels = {"spatial_width": (3.0, 3.0, 0.5), "bilateral_width": (12.0, 12.0, 2.0)}
    torch.testing.assert_close(refined, DenseCRF(**{**OPTIONS, **voxels})(prob, image))
    slices = DenseCRF(**OPTIONS, use_spacing=True, slice_axis=1)(located, image).as_tensor()
    alone = infer(prob[:, :, 2], image[:, :, 2], spacing=(0.5, 3.0))
    assert torch.equal(slices[:, :, 2], alone)
    with pytest.raises(ValueError, match="lengths in mm need the voxel sizes of a MetaTensor"):
        DenseCRF(use_spacing=True)(prob, image)


def test_widths_in_mm_of_pictures() -> None:
    prob, image = make_case(2, 6, 7)
    located = MetaTensor(prob, affine=torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0])))
    refined = DenseCRF(**OPTIONS, use_spacing=True)(located, image).as_tensor()
    assert torch.equal(refined, infer(prob, image, spacing=(0.5, 2.0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_meta_data_and_input_are_kept(dtype: torch.dtype) -> None:
    plain, image = make_case(2, 9, 8)
    prob = MetaTensor(plain.to(dtype), affine=2 * torch.eye(4), meta={"filename_or_obj": "a.png"})
    before = prob.clone()
    picture = MetaTensor(image.to(torch.uint8))
    for argmax in (False, True):
        refined = DenseCRF(argmax=argmax)(prob, picture)
        assert isinstance(refined, MetaTensor)
        assert refined.dtype == torch.float32
        assert refined.meta["filename_or_obj"] == "a.png"
        assert torch.equal(refined.affine, prob.affine)
        assert refined.applied_operations == prob.applied_operations
    assert torch.equal(prob, before)
    assert type(DenseCRF()(plain, picture)) is torch.Tensor


def test_without_iterations_nothing_changes() -> None:
    prob, image = make_case(3, 6, 7)
    torch.testing.assert_close(DenseCRF(iterations=0)(prob, image), prob, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spatial_weight": -1}, "spatial_weight must be a number, 0 or more, got -1"),
        ({"bilateral_weight": float("nan")}, "bilateral_weight must be a number, 0 or more, got nan"),
        ({"spatial_width": 0}, "spatial_width must be greater than 0, got 0"),
        ({"bilateral_width": [3, 0]}, r"bilateral_width must be greater than 0, got \[3, 0\]"),
        ({"bilateral_intensity": -13}, "bilateral_intensity must be greater than 0, got"),
        ({"iterations": 2.5}, "iterations must be a whole number, 0 or more, got 2.5"),
        ({"iterations": -1}, "iterations must be a whole number, 0 or more, got -1"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_computed(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DenseCRF(**arguments)  # type: ignore[arg-type]


def refuse(prob: torch.Tensor, image: torch.Tensor, **options: int) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the tests below look at the text
        DenseCRF(**options)(MetaTensor(prob, meta={"filename_or_obj": "a.png"}), image)
    text = str(caught.value)
    assert text.startswith("image a.png: ")
    assert "\n" not in text
    return text


def test_wrong_inputs_are_named_in_one_line() -> None:
    prob, image = make_case(2, 4, 5)
    assert "image (C, *spatial) on one grid, got (2, 4, 5) and (3, 4, 4)" in refuse(prob, image[..., :4])
    assert "use Invertd for the probabilities" in refuse(prob, image[:, :, :, None])
    assert "0 to 1, got" in refuse(5 * prob, image)
    assert "0 to 1, got" in refuse(5 * prob[:1] + 1, image)
    assert "sum to 1" in refuse(prob / 2, image)
    assert "not finite" in refuse(prob * torch.nan, image)
    assert "not finite" in refuse(prob[:1] * torch.nan, image)
    assert "not finite" in refuse(prob, image / 0)
    assert "no slices along axis 2" in refuse(prob, image, slice_axis=2)
    assert "got (2, 0, 5)" in refuse(prob[:, :0], image[:, :0])


def test_a_slice_that_is_wrong_is_named() -> None:
    prob, image = make_case(2, 4, 5, 3)
    image[:, :, :, 1] = torch.nan
    assert "case 1 of 3: image has values that are not finite" in refuse(prob, image, slice_axis=2)


def test_a_case_that_does_not_fit_into_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.crf.memory.find_free_memory", lambda: 100)
    prob, image = make_case(2, 40, 50)
    assert "a dense CRF over 40 x 50 points" in refuse(prob, image)


def test_dictionary() -> None:
    prob, image = make_case(2, 5, 6, 4)
    data = {"pred": prob, "original": image, "label": "kept"}
    refine = DenseCRFd(["pred", "none"], "original", *OPTIONS.values(), slice_axis=2, allow_missing_keys=True)
    refined = refine(data)
    assert torch.equal(refined["pred"], DenseCRF(**OPTIONS, slice_axis=2)(prob, image))
    assert refined["label"] == "kept"
    assert data["pred"] is prob
    with pytest.raises(ValueError, match="the CRF needs the image 'original': put LoadSourced before it"):
        refine({"pred": prob})
    with pytest.raises(KeyError):
        DenseCRFd("none", "original")(data)


@pytest.mark.gpu
def test_on_a_gpu_it_stays_there() -> None:
    prob, image = make_case(3, 9, 8)
    refined = DenseCRF(**OPTIONS)(prob.cuda(), image)
    assert refined.is_cuda
    torch.testing.assert_close(refined.cpu(), DenseCRF(**OPTIONS)(prob, image), rtol=0, atol=1e-3)
