import subprocess
import sys

import pytest

from pipeline.issues import InputError, Issue, count_by_code, summarise

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


def test_input_error_is_one_line_on_stderr_and_exit_code_1() -> None:
    code = (
        "from pipeline.issues import InputError\ntry:\n raise InputError('no\\nsuch folder')\nexcept Exception:\n pass"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no such folder\n")


def test_input_error_passes_through_handlers_of_exceptions() -> None:
    def swallow() -> None:
        try:
            raise InputError("told")
        except Exception:
            pytest.fail("caught as an Exception")

    with pytest.raises(SystemExit, match="told"):
        swallow()
