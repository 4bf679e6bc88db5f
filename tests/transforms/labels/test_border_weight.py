"""BorderWeightMap: equation 2 of the paper by hand, and against distance transforms of every cell."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.ndimage import distance_transform_edt

from pipeline.transforms import BorderWeightMap, BorderWeightMapd, SeparateInstances


def random_cells(seed, shape=(40, 50), n=6):
    generator = np.random.default_rng(seed)
    ids = np.zeros(shape, dtype=np.int64)
    for number in generator.permutation(3 * n)[:n] + 1:  # some ids do not occur
        corner = [int(generator.integers(0, size - 4)) for size in shape]
        ids[tuple(slice(start, start + int(generator.integers(3, 12))) for start in corner)] = number
    return torch.as_tensor(ids)[None]


def border_term(ids, w0, sigma, width=1):
    """Equation 2 over the whole image, one distance transform a cell."""
    cells = (ids * SeparateInstances(width)(ids))[0].numpy()
    numbers = np.unique(cells)[1:]
    if len(numbers) < 2:
        return np.zeros(cells.shape)
    distances = np.sort([distance_transform_edt(cells != number) for number in numbers], axis=0)
    return np.where(cells == 0, w0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2)), 0)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(0, 7),
    st.sampled_from([1.0, 3.0, 5.0]),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
)
def test_equals_the_equation(seed, n, sigma, width, balance):
    ids = random_cells(seed, n=n)
    weights = BorderWeightMap(10, sigma, balance, width)(ids)[0].numpy()
    foreground = SeparateInstances(width)(ids)[0].numpy() > 0
    expected = border_term(ids, 10, sigma, width)
    if balance and 0 < foreground.sum() < foreground.size:
        expected += np.where(foreground, foreground.size / foreground.sum(), foreground.size / (~foreground).sum()) / 2
    else:
        expected += 1
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1.01e-4)


def test_by_hand():
    ids = torch.zeros(1, 1, 9, dtype=torch.int32)
    ids[..., :2], ids[..., 5:] = 4, 2
    weights = BorderWeightMap(w0=10, sigma=5, balance=False)(ids)[0, 0]
    middle = 1 + 10 * math.exp(-((1 + 3) ** 2) / 50)  # 3 pixels between: always 4 from border to border
    assert weights.tolist() == pytest.approx([1, 1, middle, middle, middle, 1, 1, 1, 1])


def test_touching_cells_get_a_border_of_background():
    ids = torch.ones(1, 1, 8, dtype=torch.int32)
    ids[..., 4:] = 2
    weights = BorderWeightMap(balance=False)(ids)[0, 0]
    assert weights.tolist() == pytest.approx([1, 1, 1] + [1 + 10 * math.exp(-9 / 50)] * 2 + [1, 1, 1])
    untouched = BorderWeightMap(balance=False, width=0)(ids)
    assert bool((untouched == 1).all())


def test_classes_are_balanced():
    ids = torch.zeros(1, 10, 10)
    ids[0, :2, :5] = 7
    weights = BorderWeightMap()(ids)
    assert weights[ids > 0].tolist() == pytest.approx([5.0] * 10)
    assert weights[ids == 0].tolist() == pytest.approx([0.5 / 0.9] * 90)
    assert weights.mean() == pytest.approx(1)


@pytest.mark.parametrize("value", [0, 3])
def test_one_class_alone_has_weight_1(value):
    assert bool((BorderWeightMap()(torch.full((1, 5, 5), value)) == 1).all())


def test_without_border_term():
    ids = random_cells(0)
    assert bool((BorderWeightMap(w0=0, balance=False)(ids) == 1).all())


def test_volumes():
    ids = random_cells(1, (12, 14, 16))
    weights = BorderWeightMap(balance=False)(ids)[0].numpy()
    np.testing.assert_allclose(weights, 1 + border_term(ids, 10, 5), rtol=1e-5, atol=1.01e-4)


def test_type_and_meta_data():
    ids = MetaTensor(random_cells(2), meta={"filename_or_obj": "a"})
    weights = BorderWeightMap()(ids)
    assert weights.dtype == torch.float32
    assert weights.meta["filename_or_obj"] == "a"
    assert type(BorderWeightMap()(random_cells(2))) is torch.Tensor


def test_dictionary():
    ids = random_cells(3)
    data = {"label": ids}
    result = BorderWeightMapd("label", w0=4, sigma=2, balance=False, width=2)(data)
    assert torch.equal(result["weight"], BorderWeightMap(4, 2, False, 2)(ids))
    assert result["label"] is ids
    assert list(data) == ["label"]
    assert list(BorderWeightMapd("label", new_key="w")(data)) == ["label", "w"]
    assert BorderWeightMapd("missing", allow_missing_keys=True)(data) == data
    with pytest.raises(KeyError):
        BorderWeightMapd("missing")(data)


@pytest.mark.parametrize("arguments", [{"w0": -1}, {"sigma": 0}, {"width": -1}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="w0 and width must be at least 0 and sigma above 0"):
        BorderWeightMap(**arguments)


def test_several_keys_are_refused():
    with pytest.raises(ValueError, match=r"keys must name one item with instance ids, got \['a', 'b'\]"):
        BorderWeightMapd(["a", "b"])


def test_what_is_no_mask_of_ids_is_refused():
    with pytest.raises(ValueError, match=r"mask has the value 0.5, expected whole numbers from 0"):
        BorderWeightMap()(torch.full((1, 3, 3), 0.5))
