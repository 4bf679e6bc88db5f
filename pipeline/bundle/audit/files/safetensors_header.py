"""Check the header of a safetensors file against its bytes, without loading it."""

import json
import math
import struct
from collections.abc import Iterator
from typing import IO, Any

from pipeline.bundle.audit.finding import Finding, make_finding, shorten
from pipeline.datasets.manifests.strict_json import find_loose_json

_MOST_HEADER = 25_000_000
_MOST_AXES = 64
_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 8),
}


def check_safetensors(file: str, stream: IO[bytes], size: int) -> Iterator[Finding]:
    """Yield what is wrong with a file of weights.

    Args:
        file: its path within the bundle.
        stream: its bytes.
        size: how many there are.
    """
    try:
        for why in _find_faults(stream, size):
            yield make_finding("weights-header", file, "", why)
    except (ValueError, RecursionError, struct.error) as error:
        yield make_finding("weights-header", file, "", f"the header cannot be read: {str(error)[:120]}")


def _find_faults(stream: IO[bytes], size: int) -> Iterator[str]:
    (length,) = struct.unpack("<Q", stream.read(8))
    if length > min(size - 8, _MOST_HEADER):
        yield f"the header claims {length} bytes of {size}"
        return
    text = stream.read(length).decode("utf-8")
    if not text.startswith("{"):
        raise ValueError("it does not begin with {")
    header = json.loads(text)
    if next(find_loose_json(text), None):
        yield "a name occurs twice, or a number is not JSON's"
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(value, str) for value in notes.values()):
        yield "__metadata__ is not an object of texts"
    ranges = []
    for name, entry in header.items():
        fault, span = _check_entry(entry)
        if fault:
            yield f"{shorten(name)}: {fault}"
            return
        ranges.append((*span, name))
    yield from _check_ranges(ranges, size - 8 - length)


def _check_entry(entry: Any) -> tuple[str, tuple[int, int]]:
    """Return a fault, or "" and the range of bytes."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return "expected dtype, shape and data_offsets", (0, 0)
    shape, offsets = entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else []
    whole = all(type(number) is int and 0 <= number < 2**53 for number in numbers)
    if not whole or not 2 <= len(numbers) <= _MOST_AXES + 2 or len(offsets) != 2:
        return "shape and data_offsets are not whole numbers", (0, 0)
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _BYTES:
        return f"unknown dtype {shorten(entry['dtype'])}", (0, 0)
    if math.prod(shape) * _BYTES[entry["dtype"]] != offsets[1] - offsets[0]:
        return f"{offsets[1] - offsets[0]} bytes for the shape {shape}", (0, 0)
    return "", (offsets[0], offsets[1])


def _check_ranges(ranges: list[tuple[int, int, str]], size: int) -> Iterator[str]:
    end = 0
    for start, stop, name in sorted(ranges):
        if start != end:
            yield (
                f"{shorten(name)} overlaps with another tensor"
                if start < end
                else f"bytes before {shorten(name)} belong to no tensor"
            )
            return
        end = stop
    if end != size:
        yield f"the tensors have {end} bytes, the file {size}"
