"""Slices are put in order of place, and what keeps them from being one volume is told."""

import itertools
from dataclasses import replace

import pytest

from pipeline.datasets.probes.dicom_series import Slice, compute_depth, find_series_problems, measure_step, sort_slices

FLAT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def stack(*depths: float) -> list[Slice]:
    return [Slice("1.2", 90 - i, (0.0, 0.0, depth), FLAT, (9, 7), (1.0, 1.0)) for i, depth in enumerate(depths)]


def told(slices: list[Slice]) -> list[tuple[str, str]]:
    return list(find_series_problems(slices))


def test_order_is_by_place_then_number_then_name() -> None:
    slices = dict(zip("cabd", stack(3, -1, 10, 2), strict=True))
    assert sort_slices(slices) == ["a", "d", "c", "b"]
    nowhere = {name: replace(item, position=()) for name, item in slices.items()}
    assert sort_slices(nowhere) == ["d", "b", "a", "c"]
    assert sort_slices({name: replace(item, position=(), instance=None) for name, item in slices.items()}) == list(
        "abcd"
    )
    for order in itertools.permutations(slices):
        assert sort_slices({name: slices[name] for name in order}) == ["a", "d", "c", "b"]


def test_depth_is_along_the_normal() -> None:
    assert compute_depth((1.0, 2.0, 3.0), FLAT) == 3
    assert compute_depth((1.0, 2.0, 3.0), (0.0, 1.0, 0.0, 0.0, 0.0, 1.0)) == 1
    assert compute_depth((), FLAT) is None
    assert measure_step(stack(0, 2, 4, 6.2)) == 2
    assert measure_step(stack(5)) is None


def test_a_whole_series_has_no_problem() -> None:
    assert told(stack(*range(9))) == []
    assert told(stack(4)) == []
    assert told(stack(*(i * 1.01 for i in range(9)))) == []


@pytest.mark.parametrize(
    ("slices", "severity", "message"),
    [
        (
            stack(0, 1, 2, 4, 5),
            "error",
            "1 slices are missing: the next after 2 mm is 2 mm away, the usual distance is 1 mm",
        ),
        (stack(0, 3, 6, 15, 18, 21, 27), "error", "3 slices are missing: the next after 6 mm"),
        (stack(0, 1, 3), "error", "1 slices are missing"),
        (stack(0, 1, 1, 2), "error", "1 slices have the position of another slice"),
        (stack(0, 1, 2.2, 3), "warning", "0.8 to 1.2 mm apart"),
        ([*stack(0, 1), replace(stack(2)[0], series="9")], "error", "belong to 2 series"),
        ([*stack(0, 1), replace(stack(2)[0], shape=(8, 7))], "error", "sizes: 9 x 7 (2 files), 8 x 7 (1 files)"),
        ([*stack(0, 1), replace(stack(2)[0], spacing=(1.0, 2.0))], "error", "pixel spacings"),
        ([*stack(0, 1), replace(stack(2)[0], orientation=FLAT[3:] + FLAT[:3])], "error", "another orientation"),
        ([*stack(0, 1), replace(stack(2)[0], position=())], "error", "1 of 3 slices have no position"),
        ([replace(item, position=()) for item in stack(0, 1)], "warning", "the slices have no position"),
    ],
)
def test_problems(slices: list[Slice], severity: str, message: str) -> None:
    ((found, text),) = told(slices)
    assert found == severity
    assert message in text
