"""Pictures: colours, shapes and images that are hard to stretch."""

import numpy as np
import pytest

from pipeline.reports.figures import PRED_COLOUR, TRUTH_COLOUR, draw_overlay, draw_panel, to_rgb


def square(low, high, size=8):
    mask = np.zeros((size, size), dtype=bool)
    mask[low:high, low:high] = True
    return mask


def test_outlines_lie_inside_and_the_image_is_not_changed():
    image = np.full((8, 8, 3), 7, dtype=np.uint8)
    drawn = draw_overlay(image, square(2, 6), truth=square(1, 7))
    assert (image == 7).all()
    assert tuple(drawn[2, 2]) == PRED_COLOUR
    assert tuple(drawn[1, 1]) == TRUTH_COLOUR
    assert tuple(drawn[3, 3]) == (7, 7, 7)
    assert tuple(drawn[0, 0]) == (7, 7, 7)
    assert drawn.dtype == np.uint8


def test_the_mask_is_seen_where_both_agree():
    drawn = draw_overlay(np.zeros((8, 8, 3), dtype=np.uint8), square(2, 6), truth=square(2, 6))
    assert {tuple(pixel) for pixel in drawn.reshape(-1, 3)} == {(0, 0, 0), PRED_COLOUR}


def test_an_empty_mask_draws_nothing():
    assert not draw_overlay(np.zeros((8, 8, 3), dtype=np.uint8), square(0, 0)).any()


def test_a_mask_of_another_size():
    with pytest.raises(ValueError, match=r"got \(8, 8, 3\) and \(9, 9\)"):
        draw_overlay(np.zeros((8, 8, 3), dtype=np.uint8), square(0, 1, 9))


def test_panel_of_a_colour_image():
    image = np.random.default_rng(0).normal(size=(8, 8, 3))
    panel = draw_panel(image, square(1, 7).astype(np.float32), square(2, 6).astype(np.int64))
    assert panel.shape == (8, 32, 3)
    assert (panel[:, 8:12] == 255).all()
    assert tuple(panel[1, 13]) == TRUTH_COLOUR
    assert tuple(panel[2, 26]) == PRED_COLOUR


def test_contrast_is_stretched_by_percentiles():
    image = np.concatenate([np.linspace(0, 1, 999), [1000]]).reshape(10, 100)
    assert np.median(to_rgb(image)) == pytest.approx(127, abs=3)


@pytest.mark.parametrize("image", [np.full((4, 4), 3.0), np.full((4, 4), np.nan), np.full((4, 4), np.inf)])
def test_an_image_without_contrast_is_black(image):
    assert not to_rgb(image).any()


def test_values_that_are_not_finite_are_black():
    image = np.arange(16.0).reshape(4, 4)
    image[3, 3] = np.nan
    assert to_rgb(image)[3, 3].tolist() == [0, 0, 0]


def test_bool_and_integer_images():
    assert to_rgb(square(0, 4)).max() == 255
    assert to_rgb(np.arange(16, dtype=np.uint16).reshape(4, 4)).max() == 255


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (1, 4, 4, 3)])
def test_other_shapes(shape):
    with pytest.raises(ValueError, match="an image"):
        to_rgb(np.zeros(shape))
