"""Position, voxel size and orientation of a volume from its NIfTI header, and contradictions in the header."""

import itertools
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Affine = tuple[tuple[float, ...], ...]
# Smaller determinants belong to voxels of less than a thousandth of a millimetre.
_MIN_VOLUME = 1e-9


def describe_affine(header: Any, shape: tuple[int, ...]) -> tuple[Affine, tuple[float, ...], dict[str, Any]]:
    """Read sform, qform and voxel sizes of a NIfTI header.

    Args:
        header: nibabel's header.
        shape: size in voxels along the axes of space.

    Returns:
        The affine that nibabel and MONAI use (4 x 4, voxel index to mm, RAS; () if it is not usable), the voxel sizes
        in mm along the axes of ``shape`` (those of the affine, else of ``pixdim``; () if neither is usable), and
        facts, JSON-ready: ``sform_code``, ``qform_code``, ``orientation`` (``"RAS"``: the direction of each index; ""
        if unknown), ``affine_problem`` ("" if there is none), ``sform_qform_distance`` (greatest distance in mm
        between the positions of a corner by sform and by qform; None unless both are set).
    """
    sform, sform_problem = _read_form(header, "sform")
    qform, qform_problem = _read_form(header, "qform")
    with np.errstate(all="ignore"):
        used, problem = _choose(header, (sform, sform_problem), (qform, qform_problem))
        distance = None
        if sform is not None and qform is not None and not (sform_problem or qform_problem):
            distance = round(measure_distance(sform, qform, shape), 6)
        spacing = _read_spacing(header, used if not problem else None, len(shape))
        orientation = "" if problem else name_orientation(used)
    facts = {
        "sform_code": int(header["sform_code"]),
        "qform_code": int(header["qform_code"]),
        "orientation": orientation,
        "affine_problem": problem,
        "sform_qform_distance": distance,
    }
    affine = () if problem else tuple(tuple(float(value) for value in row) for row in used)
    return affine, spacing, facts


def _read_form(header: Any, name: str) -> tuple[NDArray[np.float64] | None, str]:
    """Return the matrix, None if it is not set, and what is wrong with it."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            matrix, code = getattr(header, f"get_{name}")(coded=True)
        except Exception as error:
            # nibabel raises HeaderDataError, ValueError or LinAlgError for invalid quaternions.
            return None, f"the {name} cannot be read ({type(error).__name__})"
        if matrix is None or not code:
            return None, ""
        return np.asarray(matrix, dtype=np.float64), find_affine_problem(matrix, name)


def find_affine_problem(matrix: NDArray[np.floating], name: str = "affine") -> str:
    """Describe why a matrix cannot place voxels, "" if it can.

    Example:
        >>> find_affine_problem(np.diag([1.0, 0.0, 1.0, 1.0]))
        'the affine is singular: voxels have no volume'
    """
    if not np.isfinite(matrix).all():
        return f"the {name} is not finite"
    if not matrix[:3, :3].any():
        return f"the {name} is all zero"
    if abs(np.linalg.det(matrix[:3, :3])) < _MIN_VOLUME:
        return f"the {name} is singular: voxels have no volume"
    return ""


def _choose(
    header: Any, sform: tuple[NDArray[np.float64] | None, str], qform: tuple[NDArray[np.float64] | None, str]
) -> tuple[NDArray[np.float64], str]:
    """Return the matrix that nibabel takes (sform, qform, then the voxel sizes alone), and its problem."""
    for matrix, problem in (sform, qform):
        if matrix is not None:
            return matrix, problem
        if problem:
            return np.eye(4), problem
    base = np.asarray(header.get_base_affine(), dtype=np.float64)
    return base, find_affine_problem(base, "voxel size")


def _read_spacing(header: Any, affine: NDArray[np.float64] | None, axes: int) -> tuple[float, ...]:
    if affine is None:
        sizes = np.abs(np.asarray(header["pixdim"], dtype=np.float64)[1 : axes + 1])
    else:
        sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))[:axes]
    # Single precision turns 0.7 into 0.699999988.
    return tuple(round(float(size), 6) for size in sizes) if np.isfinite(sizes).all() and (sizes > 0).all() else ()


def name_orientation(affine: NDArray[np.floating] | Affine) -> str:
    """Return the direction of each increasing index, for example ``"RAS"`` (right, anterior, superior).

    Example:
        >>> name_orientation(np.diag([-1.0, -1.0, 1.0, 1.0]))
        'LPS'
    """
    import nibabel as nib

    return "".join(code or "?" for code in nib.aff2axcodes(np.asarray(affine)))


def measure_distance(
    first: NDArray[np.floating] | Affine, second: NDArray[np.floating] | Affine, shape: tuple[int, ...]
) -> float:
    """Return the greatest distance in mm between the positions that two 4 x 4 affines give a corner of a volume.

    Example:
        >>> measure_distance(np.eye(4), np.diag([2.0, 1.0, 1.0, 1.0]), (11, 5, 5))
        10.0
    """
    last = [length - 1 for length in (*shape, 1, 1)[:3]]
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, end) for end in last))], dtype=np.float64)
    difference = corners @ (np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)).T
    return float(np.sqrt((difference[:, :3] ** 2).sum(axis=1)).max())
