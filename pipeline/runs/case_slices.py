"""Pictures of single cases in a run's folder: image, truth and prediction of up to a few slices, one file a case."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import write_atomically
from pipeline.issues import InputError

#: Folder of the pictures in a run's folder
FOLDER = "case_pictures"
_NEXT = "run evaluate.json again"
_ARRAYS = ("image", "pred", "truth", "numbers")


@dataclass(frozen=True)
class CaseSlices:
    """A few slices of one case, as a reader sees them, or one picture."""

    case_id: str  #: the case
    image: NDArray[np.uint8]  #: (S, H, W) or (S, H, W, 3), 8 bit
    pred: NDArray[np.uint16]  #: (S, H, W), labels or instances, 0 is background
    truth: NDArray[np.uint16] | None  #: as ``pred``; None if the case has no truth
    numbers: NDArray[np.int64]  #: (S,), number of each slice in its volume, from 1
    total: int = 1  #: slices of the volume; 1 of a picture
    aspect: float = 1.0  #: height over width of a pixel
    is_instances: bool = False  #: whether a label is an object, whose number means nothing


def write_slices(case: CaseSlices, path: Path) -> None:
    """Write a case, completely or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    arrays: dict[str, Any] = {"image": case.image, "pred": case.pred, "numbers": case.numbers}
    if case.truth is not None:
        arrays["truth"] = case.truth
    facts = np.array([case.total, case.aspect, case.is_instances], dtype=np.float64)
    with write_atomically(path, "wb", sync=False) as stream:
        np.savez_compressed(stream, case_id=np.array(case.case_id), facts=facts, **arrays)


def read_slices(path: Path) -> CaseSlices:
    """Read a case.

    Raises:
        InputError: the file cannot be read, or is not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS if name in file}
            total, aspect, is_instances = (float(fact) for fact in file["facts"])
            case = CaseSlices(
                case_id=str(file["case_id"]),
                image=arrays["image"],
                pred=arrays["pred"],
                truth=arrays.get("truth"),
                numbers=arrays["numbers"],
                total=int(total),
                aspect=aspect,
                is_instances=bool(is_instances),
            )
    except PermissionError:
        raise InputError(f"{path}: no permission to read it, check its owner and `chmod u+r`") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise InputError(
            f"{path}: this is not the picture of a case, or it is cut off; run evaluate.json again"
        ) from None
    shapes = {case.image.shape[:3], case.pred.shape, (case.pred if case.truth is None else case.truth).shape}
    if len(shapes) > 1 or len(case.numbers) != len(case.image) or case.image.dtype != np.uint8:
        raise InputError(f"{path}: image and masks do not fit together; {_NEXT}")
    return case


def list_slices(folder: Path) -> dict[str, Path]:
    """Return the files of a run's pictures by case id; empty if it has none.

    Raises:
        InputError: as `read_slices`.
    """
    try:
        paths = sorted((folder / FOLDER).glob("*.npz"))
    except PermissionError:
        paths = []
    return {_read_id(path): path for path in paths}


def _read_id(path: Path) -> str:
    try:
        with np.load(path, allow_pickle=False) as file:
            return str(file["case_id"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return read_slices(path).case_id


def pick_slices(errors: NDArray[Any], shown: NDArray[np.bool_], most: int) -> list[int]:
    """Pick slices of a volume: spread evenly over those that hold something, always with the one with most errors.

    Args:
        errors: (S,), wrong voxels of each slice.
        shown: (S,), whether a slice holds truth or prediction.
        most: number of slices.

    Example:
        >>> pick_slices(np.array([0, 0, 5, 0, 0, 0]), np.array([0, 1, 1, 1, 1, 1], bool), 3)
        [1, 2, 5]
        >>> pick_slices(np.zeros(4), np.zeros(4, bool), 9)
        [0, 1, 2, 3]
    """
    places = np.flatnonzero(shown) if shown.any() else np.arange(len(shown))
    picked = places[np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int))]
    worst = int(errors.argmax())
    if errors.any() and worst not in picked:
        inner = picked[1:-1] if len(picked) > 2 else picked
        inner[int(np.abs(inner - worst).argmin())] = worst
    return sorted(int(place) for place in picked)


def choose_ranks(count: int, each: int) -> dict[int, str]:
    """Return what the best, median and worst of so many ranked cases are called, by rank from 0, the best.

    Example:
        >>> choose_ranks(7, 2)
        {0: 'best', 1: 'best', 3: 'median', 2: 'median', 6: 'worst', 5: 'worst'}
        >>> choose_ranks(2, 2), choose_ranks(1, 2)
        ({0: 'best', 1: 'worst'}, {0: 'best'})
    """
    each = min(each, max(1, count // 3))
    best = list(range(min(each, count)))
    worst = [rank for rank in range(count - 1, -1, -1) if rank not in best][:each]
    middle = sorted(range(count), key=lambda rank: (abs(rank - (count - 1) / 2), rank))
    median = [rank for rank in middle if rank not in best and rank not in worst][:each]
    named = (("best", best), ("median", median), ("worst", worst))
    return {rank: name for name, ranks in named for rank in ranks}
