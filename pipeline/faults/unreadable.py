"""Errors of files: images and masks that cannot be read, folders that cannot be written."""

import re
from collections.abc import Iterator, Sequence

from pipeline.faults.causes import NEXT_CAUSE, NEXT_CONTEXT, NO_READER, Cause, read_end, read_os_errors, shorten
from pipeline.faults.fault import Fault

_READING = r"applying transform <\S*\.\w*Load\w* object"
_TRACE = "Traceback (most recent call last):\n"
_PARAGRAPH = "\n\n"


def find_unreadable(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise that a transform could not load an image or a mask."""
    for _, text in causes:
        if NO_READER in text:
            yield _explain_readers(text)
    if any(re.search(_READING, text) for _, text in causes):
        path, reason = next(read_os_errors(causes), ("", shorten(causes[0].text or causes[0].kind)))
        what = f"cannot read {path}" if path else "an image or mask cannot be read"
        yield Fault(f"{what}: {reason}", path=path, reading=True, loading=True)


def _explain_readers(text: str) -> Fault:
    """Take the reason of the reader that was asked first, the one that the config names."""
    path = text[text.index(NO_READER) + len(NO_READER) :].partition(".\n")[0]
    chain = [NEXT_CAUSE.strip(), NEXT_CONTEXT.strip()]
    traces = [trace.strip() for trace in text.split(_TRACE)[1:]]
    last = next((trace for trace in traces if not trace.endswith(tuple(chain))), "")
    first = read_end(f" \n{last.partition(_PARAGRAPH)[0]}") if last else Cause("", "no reader fits")
    _, reason = next(read_os_errors([first]), ("", first.text))
    reason = shorten(reason.replace(f" '{path}'", "") or first.kind)
    return Fault(f"cannot read {path}: {reason}", path=path, reading=True, loading=True)


def find_refused(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise that the system refused to read or write a file."""
    for path, reason in read_os_errors(causes):
        yield Fault(f"{path}: {reason}" if path else reason, path=path)
