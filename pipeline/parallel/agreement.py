"""End all processes of a run together.

A process that raises alone leaves the others waiting for it in their next exchange. With NCCL they wait until
torchrun kills them, 30 seconds later; with gloo they fail with a line about sockets. An error that is found in one
process is therefore shared with the others before the next exchange.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from typing import TypeVar, cast

import ignite.distributed as idist
import torch.distributed as dist

from pipeline.issues import InputError

T = TypeVar("T")


def any_process(flag: bool) -> bool:
    """Return whether the flag is true in any process; all processes must call it.

    Example:
        >>> any_process(True), any_process(False)
        (True, False)
    """
    return flag if idist.get_world_size() == 1 else bool(idist.all_reduce(int(flag), "MAX"))


def agree_on(decision: bool) -> bool:
    """Return the decision of the first process; all processes must call it.

    Example:
        >>> agree_on(True)
        True
    """
    return decision if idist.get_world_size() == 1 else bool(idist.broadcast(int(decision)))


def collect(item: T) -> list[T]:
    """Return the items of all processes, in their order; all processes must call it.

    Args:
        item: small, and of any type that can be pickled.

    Example:
        >>> collect("ä")
        ['ä']
    """
    if idist.get_world_size() == 1:
        return [item]
    # As a tuple, because ignite counts the characters of a text and fails where one has several bytes.
    return [packed[0] for packed in cast(list[tuple[T]], idist.all_gather((item,)))]


@contextlib.contextmanager
def exit_together() -> Iterator[None]:
    """Exit in all processes if the block raises in one; all processes must enter it.

    The first process shows the message of the process that raised; the others exit silently with the same code. An
    exception other than `InputError` and `SystemExit` is raised where it happened, with its trace.

    Raises:
        InputError: in the first process: the block raised, here or in another process.
        SystemExit: in the others; or the block raised it.

    Example:
        >>> with exit_together():
        ...     raise InputError("disk full")
        Traceback (most recent call last):
        pipeline.issues.InputError: disk full
    """
    error: BaseException | None = None
    try:
        yield
    except (Exception, SystemExit) as problem:
        if idist.get_world_size() == 1:
            raise
        error = problem
    if any_process(error is not None):
        raise _choose(error, collect(_describe(error)))


def explain_lost_process(error: BaseException) -> InputError | None:
    """Return the line to show instead of an error that only means that another process has ended.

    Args:
        error: the exception.

    Returns:
        None if the error has another cause.
    """
    if not dist.is_initialized() or not _is_about_connection(error):
        return None
    return InputError(
        f"process {dist.get_rank()} cannot go on: another process of this run has ended, and its reason stands above "
        "or, if it was killed, in torchrun's table below; saved files are complete: continue with --resume true"
    )


def record_failure(error: BaseException) -> None:
    """Pass the line of an error to torchrun, which prints it in its final table.

    Args:
        error: the reason why this process ends; only one with a message is recorded.
    """
    file, line = os.environ.get("TORCHELASTIC_ERROR_FILE"), _describe(error)[1]
    if file is None or not line or not dist.is_initialized():
        return
    content = {"message": {"message": line, "extraInfo": {"timestamp": str(int(time.time()))}}}
    with contextlib.suppress(OSError), open(file, "w", encoding="utf-8") as stream:
        json.dump(content, stream)


def _choose(error: BaseException | None, reports: list[tuple[int, str]]) -> BaseException:
    if error is not None and (idist.get_rank() == 0 or not isinstance(error, InputError | SystemExit)):
        return error
    process, (code, line) = next((number, report) for number, report in enumerate(reports) if report[0])
    if idist.get_rank() > 0 or not line:
        return SystemExit(code)
    return InputError(f"process {process}: {line}")


def _describe(error: BaseException | None) -> tuple[int, str]:
    """Return exit code and line; code 0 means no error."""
    if error is None:
        return 0, ""
    if isinstance(error, InputError):
        return 1, str(error)
    if isinstance(error, SystemExit):
        return (error.code, "") if isinstance(error.code, int) else (1, str(error.code or ""))
    return 1, f"{type(error).__name__}: {error}"


def _is_about_connection(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, dist.DistError) or "/gloo/" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
