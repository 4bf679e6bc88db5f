"""How much memory a case needs, told before it is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

__all__ = ["check_memory", "estimate_memory", "find_free_memory"]

_BYTES = 4  # of float32, int32, uint32
# A finer lattice has more vertices, at most one for each corner of each point; on images it has far fewer.
_VERTICES = 0.35
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def estimate_memory(shape: Sequence[int], labels: int, channels: int) -> int:
    """Return about how many bytes `pipeline.crf.mean_field` takes beside its arguments on the compiled path.

    For each point: 8 (d + 1) bytes for each lattice (index and weight of d + 1 corners), the unary, the result, and
    an allowance for the vertices, which depend on the image.

    Args:
        shape: of the grid.
        labels: L.
        channels: C of the image.

    Example:
        >>> round(estimate_memory((512, 512), 2, 3) / 512**2)
        119
    """
    axes = len(shape)
    corners = (axes + 1) + (axes + channels + 1)
    filtered = 1 if labels == 2 else labels
    lattices = 2 * _BYTES * corners
    vertices = _VERTICES * (2 * corners * _BYTES + 3 * filtered * _BYTES)
    return int(math.prod(shape) * (lattices + vertices + _BYTES * (labels + filtered)))


def find_free_memory() -> int | None:
    """Return the bytes that this process may still take, by the system and its control group; None if unknown."""
    free = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
        for limit, used in _CGROUPS:
            text = Path(limit).read_text(encoding="ascii").strip() if Path(limit).exists() else "max"
            if text != "max":
                free.append(int(text) - int(Path(used).read_text(encoding="ascii")))
    except (OSError, ValueError, IndexError):
        pass
    return min(free) if free else None


def check_memory(shape: Sequence[int], labels: int, channels: int) -> None:
    """Refuse a case that will not fit.

    Raises:
        MemoryError: the estimate exceeds what is free.
    """
    free, needed = find_free_memory(), estimate_memory(shape, labels, channels)
    if free is not None and needed > free:
        grid = " x ".join(map(str, shape))
        raise MemoryError(
            f"a dense CRF over {grid} points, {labels} labels and {channels} channels needs about "
            f"{needed / 2**30:.1f} GiB and {max(free, 0) / 2**30:.1f} GiB are free: crop to the foreground, treat a "
            "volume slice by slice, or resample"
        )
