"""Estimate the memory of a case before it is allocated."""

import math
from collections.abc import Sequence
from pathlib import Path

_CORNER = 2 + 4  # bytes of the number and of the weight of a simplex's corner
_FLOAT = 4
# A vertex while the lattice is built: its key in two lists, its slot in a half-empty table, its ids; see lattice.
_VERTEX = 2 * 8 + 3 * 12 + 2 * 8
_NEIGHBOURS = 2 * 4
_VERTICES = 0.1  # per point, on images with usual widths
_TENSOR_CORNER = 112  # bytes per corner on the torch backend, which builds the lattice for all points at once; measured
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class CaseTooLargeError(ValueError, MemoryError):
    """A case needs more memory than is free."""


def estimate_memory(
    shape: Sequence[int], labels: int, channels: int, vertices: float = _VERTICES, backend: str = "numba"
) -> int:
    """Return about how many bytes `pipeline.crf.mean_field` allocates in addition to its arguments.

    Per point on the numba backend: 6 bytes per corner of its simplex in both lattices, the unary, the result, and the
    vertices. Their number depends on the image and the widths: some hundredths per point are usual, widths of a voxel
    or two and of a few grey values make several, and one per corner is the maximum.

    Args:
        shape: of the grid.
        labels: L.
        channels: C of the image.
        vertices: of both lattices, per point; ignored by the torch backend, whose points take far more.
        backend: ``"numba"`` or ``"torch"``.

    Example:
        >>> round(estimate_memory((512, 512), 2, 3) / 512**2)  # usual
        79
        >>> round(estimate_memory((512, 512), 2, 3, vertices=9) / 512**2)  # the most that is possible
        1218
    """
    axes = len(shape)
    if backend == "torch":
        return int(math.prod(shape) * (_TENSOR_CORNER * (axes + channels + 1) + 2 * _FLOAT * labels))
    corners = (axes + 1) + (axes + channels + 1)
    filtered = 1 if labels == 2 else labels
    fixed = _CORNER * corners + _FLOAT * (labels + filtered)
    return int(math.prod(shape) * (fixed + vertices * _measure_vertex(axes + channels, filtered)))


def _measure_vertex(axes: int, filtered: int) -> int:
    return _VERTEX + _NEIGHBOURS * (axes + 1) + 3 * _FLOAT * filtered


def find_free_memory() -> int | None:
    """Return the bytes that this process may still allocate (system and control group); None if unknown."""
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


def check_memory(shape: Sequence[int], labels: int, channels: int, backend: str = "numba") -> None:
    """Refuse a case that does not fit; for the arguments see `estimate_memory`.

    Raises:
        CaseTooLargeError: the estimate exceeds what is free.
    """
    free, needed = find_free_memory(), estimate_memory(shape, labels, channels, backend=backend)
    if free is not None and needed > free:
        grid = " x ".join(map(str, shape))
        raise CaseTooLargeError(
            f"a dense CRF over {grid} points, {labels} labels and {channels} channels needs about "
            f"{needed / 2**30:.1f} GiB and {max(free, 0) / 2**30:.1f} GiB are free: crop to the foreground, process a "
            "volume slice by slice, or resample"
        )


def check_vertices(number: int, axes: int) -> None:
    """Refuse a lattice that does not fit, once its vertices are counted.

    Args:
        number: of the vertices, summed over all bricks.
        axes: of the lattice.

    Raises:
        CaseTooLargeError: they need more memory than is free.
    """
    free, needed = find_free_memory(), number * _measure_vertex(axes, 1)
    if free is not None and needed > free:
        raise CaseTooLargeError(
            f"kernels as narrow as these give the lattice {number} vertices, for about {needed / 2**30:.1f} GiB, and "
            f"{max(free, 0) / 2**30:.1f} GiB are free: give larger widths, or crop the image"
        )
