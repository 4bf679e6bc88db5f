"""draw_gallery: columns, sizes, colours and titles."""

import numpy as np
import pytest

from pipeline.pictures.figures import PALETTE, PRED_COLOUR, TRUTH_COLOUR
from pipeline.pictures.gallery import GalleryRow, draw_gallery

LINE, GAP = 14, 4


def square(low, high, label=1, shape=(20, 40)):
    mask = np.zeros(shape, int)
    mask[low:high, low:high] = label
    return mask


def cut_tiles(figure, width, top, height, number):
    return [figure[top : top + height, k * (width + GAP) : k * (width + GAP) + width] for k in range(number)]


def test_columns_of_a_row():
    image = np.full((20, 40, 3), 50, np.uint8)
    figure = draw_gallery([GalleryRow("case 1", image, square(4, 12), square(8, 16))], width=40)
    assert figure.shape == (2 * LINE + 20, 4 * 40 + 3 * GAP, 3)
    plain, truth, pred, overlay = cut_tiles(figure, 40, 2 * LINE, 20, 4)
    assert (plain == 50).all()
    assert np.array_equal(truth[..., 0], square(8, 16, 255))
    assert np.array_equal(pred[..., 0], square(4, 12, 255))
    assert (overlay[4, 4] == PRED_COLOUR).all()
    assert (overlay[15, 15] == TRUTH_COLOUR).all()
    assert (overlay[10, 5] == 50).all(), "what the outline encloses stays visible"


def test_titles_are_drawn_over_their_columns():
    row = GalleryRow("x", np.zeros((20, 40)), square(0, 1), square(0, 1))
    figure = draw_gallery([row], width=80)
    titles = figure[:LINE]
    for k in range(4):
        column = titles[:, k * (80 + GAP) : k * (80 + GAP) + 80]
        assert (column < 128).any(), f"title {k}"
    assert (figure[LINE : 2 * LINE, :20] < 128).any(), "name of the case"


def test_without_truth():
    row = GalleryRow("x", np.zeros((20, 40)), square(4, 12))
    assert draw_gallery([row], width=40).shape == (2 * LINE + 20, 3 * 40 + 2 * GAP, 3)
    known = GalleryRow("y", np.zeros((20, 40)), square(4, 12), square(4, 12))
    figure = draw_gallery([row, known], width=40)
    assert figure.shape == (LINE + 2 * (LINE + 20), 4 * 40 + 3 * GAP, 3)
    assert not cut_tiles(figure, 40, 2 * LINE, 20, 4)[1].any(), "no truth, nothing white"


def test_sizes_are_scaled_to_one_width_and_no_label_is_invented():
    large = GalleryRow("large", np.random.default_rng(0).random((300, 400)), square(30, 200, 3, (300, 400)))
    small = GalleryRow("small", np.zeros((10, 10, 3), np.uint8), square(1, 5, 2, (10, 10)))
    figure = draw_gallery([large, small], width=100)
    assert figure.shape == (LINE + LINE + 75 + LINE + 100, 3 * 100 + 2 * GAP, 3)
    for top, height, label in ((2 * LINE, 75, 3), (3 * LINE + 75, 100, 2)):
        pred = cut_tiles(figure, 100, top, height, 3)[1]
        assert {tuple(pixel) for pixel in pred.reshape(-1, 3)} == {(0, 0, 0), PALETTE[label - 1]}


def test_long_and_foreign_names_are_shortened():
    rows = [GalleryRow(name, np.zeros((20, 40)), square(0, 1)) for name in ("a" * 500, "Überprüfung 例", "")]
    assert draw_gallery(rows, width=40).shape[1] == 3 * 40 + 2 * GAP


def test_bad_rows():
    with pytest.raises(ValueError, match="at least one case"):
        draw_gallery([])
    with pytest.raises(ValueError, match=r"case x: image and masks must agree in size, got \[\(20, 40\), \(20, 41\)\]"):
        draw_gallery([GalleryRow("x", np.zeros((20, 41)), square(0, 1))])
