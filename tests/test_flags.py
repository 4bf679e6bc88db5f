"""read_flag: switches from the command line become bools."""

import pytest

from pipeline.flags import read_flag
from pipeline.issues import InputError


@pytest.mark.parametrize("value", [True, "true", "True", "TRUE", " true "])
def test_true(value):
    assert read_flag(value, "overlay") is True


@pytest.mark.parametrize("value", [False, "false", "False", "FALSE", "false\n"])
def test_false(value):
    assert read_flag(value, "overlay") is False


@pytest.mark.parametrize("value", ["", "yes", "0", "truefalse", 0, 1, None, 1.0, ["true"]])
def test_anything_else_is_refused_with_the_name_and_the_value(value):
    with pytest.raises(InputError) as caught:
        read_flag(value, "overlay")
    assert str(caught.value) == f"--overlay must be true or false, got {value!r}"
