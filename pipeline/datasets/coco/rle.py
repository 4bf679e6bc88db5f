"""Run-length masks as COCO stores them: decoded and measured in Python, because C code would read past short ones."""

from __future__ import annotations

from collections.abc import Sequence

# Seven groups of five bits are enough for any image that fits into 32 bits.
_MAX_SHIFT = 35


def decode_counts(text: str, pixels: int) -> list[int]:
    """Decode the compressed form of ``counts``: numbers of five bits a character, from the third on as differences.

    Args:
        text: the characters of ``counts``.
        pixels: number of pixels of the image; decoding stops where the runs have passed it.

    Returns:
        Lengths of the runs, background first, down the columns.

    Raises:
        ValueError: a character that does not occur in this code, a number cut off or too long, a negative run, or more
            pixels than the image has.

    Example:
        >>> decode_counts("0:", 10), decode_counts("52203", 20)
        ([0, 10], [5, 2, 2, 2, 5])
    """
    counts: list[int] = []
    total = value = shift = 0
    for position, character in enumerate(text):
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"character {character!a} at {position} does not occur in compressed counts")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            if shift >= _MAX_SHIFT:
                raise ValueError(f"the number at {position} is too long")
            continue
        if bits & 16:
            value -= 1 << shift
        if len(counts) > 2:
            value += counts[-2]
        total += value
        if value < 0 or total > pixels:
            raise ValueError(f"run {len(counts)} is {value}" + (f", more than {pixels} pixels" if value >= 0 else ""))
        counts.append(value)
        value = shift = 0
    if shift:
        raise ValueError("cut off within a number")
    return counts


def measure_runs(counts: Sequence[int], height: int) -> tuple[tuple[int, int, int, int], int]:
    """Measure a run-length mask without drawing it.

    Args:
        counts: lengths of the runs, background first, down the columns.
        height: height of the image in pixels.

    Returns:
        Box (left, top, right, bottom), the ends excluded, and the number of foreground pixels; the box of an empty mask
        is (0, 0, 0, 0).

    Example:
        >>> measure_runs([5, 2, 2, 2, 5], 4)  # rows 1 and 2 of the columns 1 and 2
        ((1, 1, 3, 3), 4)
    """
    position = area = 0
    left = top = right = bottom = -1
    for index, count in enumerate(counts):
        if index % 2 and count:
            area += count
            first, last = divmod(position, height), divmod(position + count - 1, height)
            # A run that goes on in the next column touches the last row and the first.
            low, high = (first[1], last[1]) if first[0] == last[0] else (0, height - 1)
            left = first[0] if left < 0 else left
            top = low if top < 0 else min(top, low)
            right, bottom = last[0], max(bottom, high)
        position += count
    return (left, top, right + 1, bottom + 1) if area else (0, 0, 0, 0), area
