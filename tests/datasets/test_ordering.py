from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.ordering import slice_key, split_number


@given(st.lists(st.integers(0, 10_000), unique=True), st.text("ab_-", max_size=5))
def test_slices_are_ordered_by_number(numbers: list[int], prefix: str) -> None:
    ordered = sorted((f"{prefix}{number}" for number in numbers), key=slice_key)
    assert ordered == [f"{prefix}{number}" for number in sorted(numbers)]


def test_a_name_without_number_comes_first() -> None:
    assert split_number("") == ("", None)
    assert sorted(["x1", "x"], key=slice_key) == ["x", "x1"]
    assert sorted(["x1", "x01"], key=slice_key) == ["x01", "x1"]
