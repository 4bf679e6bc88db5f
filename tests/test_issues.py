import pickle
import traceback

import pytest
from torch.utils.data import DataLoader, Dataset

from pipeline.issues import InputError, Issue, count_by_code, find_input_error, summarise

ERROR = Issue("empty-file", "error", "0 bytes", record="a", path="a/1.tif", hint="restore it")
WARNING = Issue("checksum-missing", "warning", "no sha256")


def test_one_line_names_file_record_and_hint() -> None:
    assert ERROR.one_line() == "error empty-file a/1.tif [a]: 0 bytes; restore it"
    assert WARNING.one_line() == "warning checksum-missing: no sha256"
    assert Issue("split", "error", "wrong\nthing", record="cases[1]").one_line() == "error split cases[1]: wrong thing"


def test_to_dict_keeps_all_fields() -> None:
    assert Issue(**ERROR.to_dict()) == ERROR  # type: ignore[arg-type]


def test_summary_names_an_error_before_warnings() -> None:
    assert summarise([WARNING, ERROR]) == "empty-file a/1.tif [a]: 0 bytes; restore it (and 1 more)"
    assert summarise([WARNING]) == "checksum-missing: no sha256"


def test_count_by_code_orders_errors_first() -> None:
    assert list(count_by_code([WARNING, ERROR, WARNING]).items()) == [("empty-file", 1), ("checksum-missing", 2)]


class Refusing(Dataset[int]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise InputError(f"case {index} has\nno mask")


def test_clients_can_catch_an_input_error() -> None:
    error = InputError("no\nsuch folder")
    assert isinstance(error, Exception)
    assert "".join(traceback.format_exception_only(error)) == "pipeline.issues.InputError: no such folder\n"


def test_an_input_error_can_be_pickled() -> None:
    copied = pickle.loads(pickle.dumps(InputError("no\nsuch folder \x1b")))
    assert type(copied) is InputError
    assert str(copied) == "no such folder \\x1b"


def test_that_of_a_loaders_worker_arrives_without_its_trace() -> None:
    with pytest.raises(InputError) as caught:
        next(iter(DataLoader(Refusing(), num_workers=1)))
    assert str(caught.value) == "case 0 has no mask"


def test_it_is_found_among_the_causes_but_not_among_what_was_handled() -> None:
    told = InputError("told")
    outer = RuntimeError("Failed to evaluate")
    outer.__cause__ = KeyError("train")
    assert find_input_error(outer) is None
    outer.__cause__.__cause__ = told
    assert find_input_error(outer) is told
    assert find_input_error(told) is told
    after = RuntimeError("another")
    after.__context__ = told
    assert find_input_error(after) is None
