"""COCO's run-length masks, decoded and measured in Python: pycocotools reads past the end of short ones."""

from collections.abc import Iterator, Sequence

# Seven groups of five bits are enough for any image that fits into 32 bits.
_MAX_SHIFT = 35


def decode_counts(text: str, pixels: int) -> list[int]:
    """Decode compressed ``counts``: five bits per character; from the third number on, differences to two before.

    Returns the lengths of the runs, background first, down the columns. Raises `ValueError` for an invalid character,
    a number cut off or too long, a negative run, or more pixels than the image.

    Example:
        >>> decode_counts("0:", 10), decode_counts("52203", 20)
        ([0, 10], [5, 2, 2, 2, 5])
    """
    counts: list[int] = []
    left = pixels
    for value in _decode_numbers(text):
        count = value + counts[-2] if len(counts) > 2 else value
        if not 0 <= count <= left:
            too_many = f", more than {pixels} pixels" if count >= 0 else ""
            raise ValueError(f"run {len(counts)} is {count}{too_many}")
        left -= count
        counts.append(count)
    return counts


def _decode_numbers(text: str) -> Iterator[int]:
    """Yield signed numbers in groups of five bits, lowest first; the sixth bit says that another group follows."""
    value = shift = 0
    for position, character in enumerate(text):
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"character {character!a} at {position} does not occur in compressed counts")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            yield value - (1 << shift) if bits & 16 else value
            value = shift = 0
        elif shift >= _MAX_SHIFT:
            raise ValueError(f"the number at {position} is too long")
    if shift:
        raise ValueError("cut off within a number")


def measure_runs(counts: Sequence[int], height: int) -> tuple[tuple[int, int, int, int], int]:
    """Return the box and the number of foreground pixels of a run-length mask without drawing it.

    The box is (left, top, right, bottom), right and bottom excluded, (0, 0, 0, 0) for an empty mask.

    Example:
        >>> measure_runs([5, 2, 2, 2, 5], 4)  # rows 1 and 2 of the columns 1 and 2
        ((1, 1, 3, 3), 4)
    """
    position = area = 0
    left = top = right = bottom = -1
    for index, count in enumerate(counts):
        if index % 2 and count:
            area += count
            (column, low), (right, high) = divmod(position, height), divmod(position + count - 1, height)
            # A run that continues in the next column touches the last row and the first.
            low, high = (low, high) if column == right else (0, height - 1)
            left = column if left < 0 else left
            top, bottom = low if top < 0 else min(top, low), max(bottom, high)
        position += count
    return (left, top, right + 1, bottom + 1) if area else (0, 0, 0, 0), area
