"""Recognise what ended a run, by the errors of torch, numpy, Python and the readers, and say it in one line.

MONAI wraps an error once for each part of a config that it passes on its way, and torch packs the trace of a loader's
worker into the message of another error. Here all of them are unpacked again, the first cause first.
"""

import errno
import os
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.atomic import format_bytes
from pipeline.issues import join_lines

try:
    import resource  # here, because an import needs an open file
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Knobs that save memory, and the value below which they cannot go; None for sizes
SAVING = {
    "batch_size": 1,
    "sw_batch_size": 1,
    "roi_size": None,
    "image_size": None,
    "slices_per_patient": 1,
    "tiles_per_frame": 1,
    "cache_rate": 0,
    "num_workers": 0,
}
_NETWORK = ("batch_size", "sw_batch_size", "roi_size", "image_size", "slices_per_patient", "tiles_per_frame")
_LOADING = ("num_workers", "batch_size", "cache_rate")
_SIZES = ("roi_size", "image_size", "input_size")
_LONGEST = 300
# Modules in which sizes meet.
_PARTS = ("networks", "losses")
_SIZED = (
    "torch.nn.",
    "torch.utils.data.",
    "monai.networks.",
    "monai.losses.",
    "pipeline.networks.",
    "pipeline.losses.",
)

_GPU = r"(CUDA|HIP|XPU|MPS backend) out of memory|CUDA error: out of memory|CU\w+_STATUS_ALLOC_FAILED"
_RAM = (
    r"an't allocate memory|annot allocate memory|Unable to allocate .* for an array|std::bad_alloc|"
    r"ailed to allocate memory|not enough memory"
)
_AMOUNT = r"(?:ried to allocate|Unable to allocate) ([\d.]+) (\w+)"
_SHARED_MEMORY = r"torch_\d+_\d+|/dev/shm|out of shared memory|Bus error"
_WORKER = r"DataLoader worker \(pids?(?:\(s\))? ([\d, ]+)\) (?:is killed by signal: ([\w ]+)|exited unexpectedly)"
_ERRNO = r"\[Errno (\d+)\] ([^:]+)(?:: b?(['\"])(.*?)\3)?"
_NO_ACCESS = r"No such file or no access: '(.*)'"
_NO_READER = "cannot find a suitable reader for file: "
_PARAGRAPH = "\n\n"
_TRACE = "Traceback (most recent call last):\n"
_READING = r"applying transform <\S*\.\w*Load\w* object"
_WORKER_TRACE = "\nOriginal Traceback"
_NEXT_CAUSE = "\n\nThe above exception was the direct cause of the following exception:\n\n"
_NEXT_CONTEXT = "\n\nDuring handling of the above exception, another exception occurred:\n\n"


class Cause(NamedTuple):
    """One error of a chain."""

    kind: str  #: name of its class
    text: str  #: its message


@dataclass(frozen=True)
class Fault:
    """What ended a run."""

    what: str  #: one line
    advice: str = ""  #: what to do
    lower: tuple[str, ...] = ()  #: knobs whose lower values avoid it
    path: str = ""  #: the file or folder that it is about
    reading: bool = False  #: a file of a case cannot be read
    loading: bool = False  #: it came while cases were loaded, whatever the main process was doing
    traced: bool = True  #: the trace of the error says more


def explain(error: BaseException, values: Mapping[str, Any] | None = None) -> str | None:
    """Return one line for an error whose reason is the machine, a file or a setting.

    Args:
        error: the exception, with its causes.
        values: the knobs in use, with their values; None if they are unknown.

    Returns:
        None if the error is not known; then it may be a bug, and its trace is needed.

    Example:
        >>> explain(MemoryError(), {"batch_size": 8, "num_workers": 0})
        'memory (RAM) is full; lower --batch_size (now 8)'
        >>> explain(KeyError("image"))
    """
    fault = find_fault(error)
    return None if fault is None else "; ".join(filter(None, (fault.what, advise(fault, values))))


def find_fault(error: BaseException) -> Fault | None:
    """Return what the error means, if it is known."""
    causes = list_causes(error)
    return next((fault for find in (*_find_place(error), *_KINDS) for fault in find(causes)), None)


def advise(fault: Fault, values: Mapping[str, Any] | None = None) -> str:
    """Return what to do about a fault: the knobs to lower that are in use and can be lowered, and the other advice.

    Example:
        >>> advise(Fault("full", lower=("batch_size", "cache_rate")), {"batch_size": 1, "cache_rate": 0.5})
        'lower --cache_rate (now 0.5)'
        >>> advise(Fault("full", lower=("batch_size", "cache_rate")))
        'lower batch_size or cache_rate'
    """
    if values is None:
        knobs = list(fault.lower)
    else:
        knobs = [f"--{name} (now {values[name]})" for name in fault.lower if _can_be_lower(name, values.get(name))]
    parts = [f"lower {_join_or(knobs)}" if knobs else "", fault.advice]
    if fault.lower and not knobs:
        parts.append("no setting saves more: use a machine with more memory, or end other programs")
    return ", or ".join(filter(None, parts))


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
    return _shorten(": ".join(filter(None, first)))


def _unpack(error: BaseException) -> Iterator[Cause]:
    text = str(error)
    head, found, trace = text.partition(_WORKER_TRACE)
    if not found or "Caught " not in head:
        yield Cause(type(error).__name__, text)
        return
    if _NO_READER in trace:  # the traces of all readers follow
        yield Cause("RuntimeError", trace[trace.index(_NO_READER) :])
        return
    for chunk in trace.split(_NEXT_CAUSE):
        yield _read_end(chunk.rpartition(_NEXT_CONTEXT)[2])


def _read_end(trace: str) -> Cause:
    """Read kind and message after the indented lines of a trace."""
    lines = trace.splitlines()
    after = next((k for k, line in enumerate(lines) if k and line and not line.startswith(" ")), len(lines) - 1)
    kind, _, message = "\n".join(lines[after:]).partition(": ")
    return Cause(kind.strip().rpartition(".")[2], message.strip())


def _find_gpu_memory(causes: Sequence[Cause]) -> Iterator[Fault]:
    for kind, text in causes:
        if kind == "OutOfMemoryError" or re.search(_GPU, text):
            yield Fault(f"memory of the GPU is full{_read_amount(text)}", lower=_NETWORK)


def _find_memory(causes: Sequence[Cause]) -> Iterator[Fault]:
    for kind, text in causes:
        if kind in ("MemoryError", "_ArrayMemoryError") or re.search(_RAM, text):
            yield Fault(f"memory (RAM) is full{_read_amount(text)}", lower=tuple(SAVING))


def _find_shared_memory(causes: Sequence[Cause]) -> Iterator[Fault]:
    for _, text in causes:
        if re.search(_SHARED_MEMORY, text) and re.search(r"unable to|DataLoader worker", text):
            yield Fault(
                "shared memory of the loader's workers is full (/dev/shm)",
                "load without workers, --num_workers 0, or give more shared memory (docker run --shm-size 8g)",
                loading=True,
            )


def _find_lost_worker(causes: Sequence[Cause]) -> Iterator[Fault]:
    for _, text in causes:
        match = re.search(_WORKER, text)
        if match and (match[2] or "").strip() == "Killed":
            what = f"worker {match[1]} of the loader was killed (SIGKILL), as the system does when memory (RAM) is full"
            yield Fault(what, lower=_LOADING, loading=True, traced=False)
        elif match:
            how = f"crashed ({match[2].strip()})" if match[2] else "ended without saying why"
            yield Fault(
                f"worker {match[1]} of the loader {how}",
                "load without workers, --num_workers 0",
                loading=True,
                traced=False,
            )


def _find_cut_connection(causes: Sequence[Cause]) -> Iterator[Fault]:
    if causes[0].kind in ("ConnectionResetError", "ConnectionRefusedError", "BrokenPipeError", "EOFError"):
        what = "a worker of the loader ended while it sent its cases, as if it was killed for lack of memory (RAM)"
        yield Fault(what, lower=_LOADING, loading=True, traced=False)


def _find_limits(causes: Sequence[Cause]) -> Iterator[Fault]:
    for _, text in causes:
        if re.search(r"Too many open files|received 0 items of ancdata", text):
            yield Fault(
                f"too many open files{_read_limit()}", "allow more in the shell with `ulimit -n 8192`", ("num_workers",)
            )
        elif re.search(r"can't start new thread|\[Errno 11\]", text):
            yield Fault("the system allows no more processes or threads", lower=("num_workers",))


def _find_reading(causes: Sequence[Cause]) -> Iterator[Fault]:
    for _, text in causes:
        if _NO_READER in text:
            yield _explain_readers(text)
    if any(re.search(_READING, text) for _, text in causes):
        path, reason = next(_read_os_errors(causes), ("", _shorten(causes[0].text or causes[0].kind)))
        what = f"cannot read {path}" if path else "an image or mask cannot be read"
        yield Fault(f"{what}: {reason}", path=path, reading=True, loading=True)


def _explain_readers(text: str) -> Fault:
    """Take the reason of the reader that was asked first, the one that the config names."""
    path = text[text.index(_NO_READER) + len(_NO_READER) :].partition(".\n")[0]
    chain = [_NEXT_CAUSE.strip(), _NEXT_CONTEXT.strip()]
    traces = [trace.strip() for trace in text.split(_TRACE)[1:]]
    last = next((trace for trace in traces if not trace.endswith(tuple(chain))), "")
    first = _read_end(f" \n{last.partition(_PARAGRAPH)[0]}") if last else Cause("", "no reader fits")
    _, reason = next(_read_os_errors([first]), ("", first.text))
    reason = _shorten(reason.replace(f" '{path}'", "") or first.kind)
    return Fault(f"cannot read {path}: {reason}", path=path, reading=True, loading=True)


def _find_disk(causes: Sequence[Cause]) -> Iterator[Fault]:
    for path, reason in _read_os_errors(causes):
        yield Fault(f"{path}: {reason}" if path else reason, path=path)


def _find_place(error: BaseException) -> list[Any]:
    """Return what else an error may mean where it was raised: in a network or a loss, or where workers send cases."""
    frames = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    finders: list[Any] = [_find_sizes] if any(frame.startswith(_SIZED) for frame in frames) else []
    return [_find_cut_connection, *finders] if "torch.multiprocessing.reductions" in frames else finders


def _find_sizes(causes: Sequence[Cause]) -> Iterator[Fault]:
    for _, text in causes if not any("applying transform" in cause.text for cause in causes) else ():
        for pattern, what, advice in _SHAPES:
            match = re.search(pattern, text)
            if match:
                yield Fault(what.format(*match.groups()), advice)


_KINDS = (
    _find_gpu_memory,
    _find_shared_memory,
    _find_memory,
    _find_limits,
    _find_lost_worker,
    _find_reading,
    _find_disk,
)
_DIVISIBLE = f"set {' or '.join(_SIZES[:2])} to multiples of 32 in every direction in which the network halves it"
# Pattern in the error of torch or MONAI, what it means, what to do.
_SHAPES = (
    (
        r"to have (\d+) channels, but got (\d+) channels",
        "the network expects {} channels, the images have {}",
        "set network_def#in_channels and the transforms that choose channels to the same number",
    ),
    (
        r"Sizes of tensors must match except in dimension|The size of tensor a \(\d+\) must match the size of tensor b",
        "sizes inside the network differ where two of its paths meet",
        _DIVISIBLE,
    ),
    (
        r"Expected more than 1 (?:value per channel|spatial element) when training, got input size",
        "the network halves the image down to a single value, which cannot be normalised",
        "raise roi_size or image_size, or give it fewer levels in network_def",
    ),
    (
        r"Kernel size can't be greater than actual input size|[Oo]utput size is too small|non-zero size.*for input",
        "the image is smaller than the network's kernels",
        "raise roi_size or image_size, or give it fewer levels in network_def",
    ),
    (
        r"stack expects each tensor to be equal size, but got (\[[\d, ]*\]) at entry 0 and (\[[\d, ]*\])",
        "the images of a batch differ in size after the transforms: {} and {}",
        "pad and crop them to roi_size or image_size, or set --batch_size 1",
    ),
    (
        r"ground truth has differ\w* shape \(torch\.Size\((\[.*?\])\)\) from input \(torch\.Size\((\[.*?\])\)\)",
        "the masks of a batch have the shape {}, the network's output {}",
        "set network_def#out_channels to the number of channels that loss expects",
    ),
)


def _read_os_errors(causes: Sequence[Cause]) -> Iterator[tuple[str, str]]:
    """Find path and reason in the errors of the operating system."""
    for _, text in causes:
        match = re.search(_ERRNO, text)
        if match:
            number = int(match[1])
            yield match[4] or "", os.strerror(number).lower() if number in errno.errorcode else match[2]
        elif match := re.search(_NO_ACCESS, text):
            yield match[1], "no such file, or no access"


def _read_amount(text: str) -> str:
    match = re.search(_AMOUNT, text)
    if not match:
        return ""
    return f", {format_bytes(int(match[1])) if match[2] == 'bytes' else ' '.join(match.groups())} more were needed"


def _read_limit() -> str:
    return f", {resource.getrlimit(resource.RLIMIT_NOFILE)[0]} are allowed" if resource else ""


def _can_be_lower(name: str, value: Any) -> bool:
    least = SAVING[name]
    if value is None or least is None:
        return value is not None
    return isinstance(value, (int, float)) and value > least


def _join_or(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} or {items[-1]}"


def _shorten(text: str) -> str:
    line = join_lines(text)
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
