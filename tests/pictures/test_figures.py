"""Pictures: colours, shapes, and contrast of unusual images."""

import numpy as np
import pytest

from pipeline.pictures.figures import (
    PALETTE,
    PRED_COLOUR,
    TRUTH_COLOUR,
    draw_labels,
    draw_overlay,
    draw_panel,
    resize_labels,
    stretch_to_uint8,
    to_rgb,
)


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


def test_every_label_and_instance_has_its_outline_and_colour():
    labels = np.zeros((9, 12), int)
    labels[2:6, 1:5], labels[2:6, 5:9], labels[0, 11] = 1, 2, 9
    drawn = draw_labels(np.full((9, 12, 3), 7, np.uint8), labels)
    assert tuple(drawn[3, 4]) == PALETTE[0]
    assert tuple(drawn[3, 5]) == PALETTE[1], "touching instances are told apart"
    assert tuple(drawn[0, 11]) == PALETTE[1], "colours repeat after seven"
    assert tuple(drawn[3, 2]) == (7, 7, 7)
    assert (drawn == PALETTE[0]).all(axis=-1).sum() == 12
    with pytest.raises(ValueError, match=r"got \(8, 8, 3\) and \(9, 12\)"):
        draw_labels(np.zeros((8, 8, 3), np.uint8), labels)


def test_panel_of_several_labels_has_truth_and_prediction_apart():
    truth, pred = square(1, 4).astype(int) * 2, square(2, 5).astype(int)
    panel = draw_panel(np.zeros((8, 8)), truth, pred)
    assert (panel[:, 12:20] == PALETTE[1]).all(axis=-1).any()
    assert (panel[:, 24:] == PALETTE[0]).all(axis=-1).any()
    assert not (panel[:, 24:] == PALETTE[1]).all(axis=-1).any()


def test_resizing_labels_invents_none():
    labels = np.arange(12).reshape(3, 4)
    assert np.array_equal(resize_labels(labels, 3, 4), labels)
    assert np.array_equal(resize_labels(labels, 6, 8), np.repeat(np.repeat(labels, 2, 0), 2, 1))
    assert set(np.unique(resize_labels(labels, 7, 3))) <= set(range(12))


def test_8_bit_colours_are_shown_as_they_are():
    image = np.random.default_rng(0).integers(90, 110, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(draw_panel(image, square(0, 0), square(0, 0))[:, :8], image)


def test_stretch_ignores_outliers_and_values_that_are_not_finite():
    values = np.linspace(0, 100, 1001)
    values[[0, 1, -1]] = np.nan, -1e6, np.inf
    stretched = stretch_to_uint8(values)
    assert (stretched.dtype, stretched[500]) == (np.uint8, 127)
    assert (stretched[0], stretched[1], stretched[-1], stretched[-2]) == (0, 0, 0, 255)


def test_stretch_of_a_constant_image_is_black():
    assert (stretch_to_uint8(np.full((4, 4), 7.0)) == 0).all()
