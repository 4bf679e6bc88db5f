"""draw_planes: planes through the mask, seen as radiologists do, in true proportions."""

import nibabel as nib
import numpy as np
import pytest

from pipeline.pictures.figures import PRED_COLOUR
from pipeline.pictures.planes import cut_largest, cut_planes, draw_planes


def make_volume():
    """RAS, 1 x 2 x 3 mm: a gradient to the right, brighter in front, brightest on top."""
    x, y, z = np.meshgrid(np.arange(10), np.arange(8), np.arange(6), indexing="ij")
    return (x + 20 * y + 200 * z).astype(float), np.diag([1.0, 2.0, 3.0, 1.0])


def make_labels(at):
    labels = np.zeros((10, 8, 6), int)
    labels[at] = 1
    return labels


def test_planes_go_through_the_middle_of_the_mask():
    volume, affine = make_volume()
    axial, coronal, sagittal = cut_planes(volume, make_labels((slice(6, 9), slice(1, 4), slice(3, 6))), affine)
    assert axial.labels.sum() == coronal.labels.sum() == sagittal.labels.sum() == 9
    assert [plane.size for plane in (axial, coronal, sagittal)] == [(16.0, 10.0), (18.0, 10.0), (18.0, 16.0)]


def test_the_patients_right_is_left_and_head_and_face_are_up():
    volume, affine = make_volume()
    axial, coronal, sagittal = cut_planes(volume, make_labels((5, 4, 3)), affine)
    assert axial.image[0, 4] > axial.image[-1, 4], "face up"
    assert coronal.image[0, 4] > coronal.image[-1, 4], "head up"
    assert sagittal.image[0, 4] > sagittal.image[-1, 4], "head up"
    assert sagittal.image[2, 0] > sagittal.image[2, -1], "face to the left"
    # The mask is right of the middle, so it is drawn on the left.
    right = cut_largest(volume, make_labels((8, 4, 3)), affine).labels
    assert np.argwhere(right)[0].tolist() == [3, 1]


@pytest.mark.parametrize("code", ["LPS", "SPR", "AIL"])
def test_any_orientation_of_the_file_gives_the_same_picture(code):
    volume, affine = make_volume()
    labels = make_labels((slice(6, 9), slice(1, 4), slice(3, 6)))
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(code))
    turned = affine @ nib.orientations.inv_ornt_aff(turn, volume.shape)
    shown = draw_planes(nib.apply_orientation(volume, turn), nib.apply_orientation(labels, turn), turned)
    assert np.array_equal(shown, draw_planes(volume, labels, affine))


def test_true_proportions_and_outlines():
    volume, affine = make_volume()
    drawn = draw_planes(volume, make_labels((slice(4, 7), slice(3, 5), slice(2, 4))), affine, height=180)
    assert drawn.shape == (180, 100 + 100 + 160 + 8, 3)
    assert (drawn == PRED_COLOUR).all(axis=-1).any()


def test_without_mask_the_middle_is_shown():
    volume, affine = make_volume()
    empty = make_labels((slice(0), 0, 0))
    assert np.array_equal(cut_largest(volume, empty, affine).image, next(cut_planes(volume, empty, affine)).image)


def test_values_that_are_not_finite():
    volume, affine = make_volume()
    volume[0, 0, 0] = np.nan
    assert draw_planes(volume, make_labels((1, 1, 1)), affine).dtype == np.uint8


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"got \(4, 4, 4\) and \(4, 4\)"):
        draw_planes(np.zeros((4, 4, 4)), np.zeros((4, 4)), np.eye(4))
