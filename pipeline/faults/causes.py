"""The errors that led to an error, the first one first.

MONAI wraps an error once for each part of a config that it passes on its way, and torch packs the trace of a loader's
worker into the message of another error. Here all of them are unpacked again.
"""

import errno
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline.issues import join_lines

_LONGEST = 300
_ERRNO = r"\[Errno (\d+)\] ([^:]+)(?:: b?(['\"])(.*?)\3)?"
_NO_ACCESS = r"No such file or no access: '(.*)'"
#: Before the traces of all readers of an image, none of which could read it
NO_READER = "cannot find a suitable reader for file: "
_WORKER_TRACE = "\nOriginal Traceback"
NEXT_CAUSE = "\n\nThe above exception was the direct cause of the following exception:\n\n"
NEXT_CONTEXT = "\n\nDuring handling of the above exception, another exception occurred:\n\n"


class Cause(NamedTuple):
    """One error of a chain."""

    kind: str  #: name of its class
    text: str  #: its message


def list_causes(error: BaseException) -> list[Cause]:
    r"""Return an error and the errors that led to it, the first one first, also of a loader's worker.

    Example:
        >>> try:
        ...     try:
        ...         open("/nowhere/a.png")
        ...     except OSError as problem:
        ...         raise RuntimeError("applying transform") from problem
        ... except RuntimeError as problem:
        ...     [cause.kind for cause in list_causes(problem)]
        ['FileNotFoundError', 'RuntimeError']
    """
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__  # not the context, which may be an error that was handled
    return [part for item in reversed(chain) for part in _unpack(item)]


def describe_first(error: BaseException) -> str:
    """Return kind and message of the first cause, in one line.

    Example:
        >>> describe_first(KeyError("image"))
        "KeyError: 'image'"
    """
    first = list_causes(error)[0]
    return shorten(": ".join(filter(None, first)))


def _unpack(error: BaseException) -> Iterator[Cause]:
    text = str(error)
    head, found, trace = text.partition(_WORKER_TRACE)
    if not found or "Caught " not in head:
        yield Cause(type(error).__name__, text)
        return
    if NO_READER in trace:  # the traces of all readers follow
        yield Cause("RuntimeError", trace[trace.index(NO_READER) :])
        return
    for chunk in trace.split(NEXT_CAUSE):
        yield read_end(chunk.rpartition(NEXT_CONTEXT)[2])


def read_end(trace: str) -> Cause:
    """Read kind and message after the indented lines of a trace."""
    lines = trace.splitlines()
    after = next((k for k, line in enumerate(lines) if k and line and not line.startswith(" ")), len(lines) - 1)
    kind, _, message = "\n".join(lines[after:]).partition(": ")
    return Cause(kind.strip().rpartition(".")[2], message.strip())


def read_os_errors(causes: Sequence[Cause]) -> Iterator[tuple[str, str]]:
    """Find path and reason in the errors of the operating system."""
    for _, text in causes:
        match = re.search(_ERRNO, text)
        if match:
            number = int(match[1])
            yield match[4] or "", os.strerror(number).lower() if number in errno.errorcode else match[2]
        elif match := re.search(_NO_ACCESS, text):
            yield match[1], "no such file, or no access"


def shorten(text: str) -> str:
    """Return a text as one line that is not too long."""
    line = join_lines(text)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
