"""Find volumes for inference: NIfTI, MetaImage and NRRD files, and DICOM series."""

import fnmatch
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets.inputs.images import name_files
from pipeline.datasets.manifests.manifest import Case
from pipeline.datasets.probes import VOLUMES, expected_format, find_ending
from pipeline.issues import InputError

#: Files next to the volumes that are not inputs: masks, labels of a Decathlon dataset, outputs of a run
VOLUME_EXCLUDE = (
    *("*_mask.*", "*_seg.*", "*.seg.*", "*_label.*", "*_labels.*", "labelst[rs]/*", "*/labelst[rs]/*"),
    *("*_pred.*", "*_overlay.*", "*_figure.*"),
)
_EXPECTED = (
    "expected a NIfTI, MetaImage or NRRD file (.nii, .nii.gz, .mha, .mhd, .nrrd, .nhdr),"
    " the folder of a DICOM series, or a folder with these"
)


def find_volumes(
    input: str | os.PathLike[str], *, channels: int | None = 1, exclude: Sequence[str] = VOLUME_EXCLUDE
) -> list[dict[str, Any]]:
    """Find volumes for inference, and check that they can be read before the network starts.

    Args:
        input: a NIfTI, MetaImage or NRRD file, the folder of a DICOM series, or a folder that holds both at any depth.
        channels: required length of the fourth axis, 1 for three axes; None accepts any number.
        exclude: patterns of files that are not images, compared without case with the file's path below
            ``input``. Hidden files are always ignored.

    Returns:
        Items ``{"case_id", "image"}``, files before series: ``image`` is the absolute path of the file or of the
        series' folder; MONAI's ``LoadImaged`` reads both. The id is the name of the file or folder, or the path below
        ``input`` if names repeat.

    Raises:
        InputError: there is no volume; or a volume is truncated or corrupt, or has values that are not finite, an
            invalid affine, or another number of channels; or a series has missing or duplicate slices, or shares its
            folder with another, of which MONAI would read only one.
    """
    from pipeline.datasets.inputs.input_checks import require_sound

    path = Path(os.path.abspath(os.path.expanduser(input)))
    root, volumes, series = _find(path, exclude)
    require_sound(root, [*volumes.values(), *series.values()], channels)
    for folder in series:
        _require_one_series(folder)
    found = [*volumes, *series]
    ids = name_files(root, found, [*map(_cut_ending, volumes), *("" for _ in series)])
    return [{"case_id": name, "image": str(file)} for name, file in zip(ids, found, strict=True)]


def _cut_ending(file: Path) -> str:
    """Return the ending of a file's name, as written."""
    return file.name[len(file.name) - len(find_ending(file.name)) :]


def _find(path: Path, exclude: Sequence[str]) -> tuple[Path, dict[Path, Case], dict[Path, Case]]:
    """Return the folder that ids are relative to, the files of volumes and the folders of series."""
    from pipeline.datasets.layouts.listing import list_files

    if os.path.isfile(path):
        if expected_format(path.name) not in VOLUMES:
            raise InputError(f"{path} is not a volume: {_EXPECTED}")
        return path.parent, {path: Case(path.name, "", (path.name,))}, {}
    if not os.path.isdir(path):
        raise InputError(f"no such file or folder: {path}; {_EXPECTED}")
    files = list_files(path).files
    volumes = {path / name: Case(name, "", (name,)) for name in files if _is_volume(name, exclude)}
    series = _find_series(path, files)
    if not volumes and not series:
        raise InputError(f"no volume in {path}; {_EXPECTED}")
    return path, volumes, series


def _is_volume(name: str, exclude: Sequence[str]) -> bool:
    if expected_format(name) not in VOLUMES:
        return False
    return not any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in exclude)


def _find_series(root: Path, files: Sequence[str]) -> dict[Path, Case]:
    """Return the series of a tree by their folder.

    Raises:
        InputError: a DICOM file cannot be read, or a folder holds several series.
    """
    from pipeline.datasets.layouts.dicom import may_be_dicom, read
    from pipeline.datasets.layouts.listing import Listing

    listing = Listing(root, tuple(files))
    listing = Listing(root, tuple(name for name in files if may_be_dicom(listing, name)))
    if not listing.files:
        return {}
    series: dict[Path, list[Case]] = defaultdict(list)
    for case in read(listing).manifest.cases:
        series[(root / case.image[0]).parent].append(case)
    for folder, cases in series.items():
        if len(cases) > 1:
            first = " and ".join(Path(case.image[0]).name for case in cases[:2])
            raise _refuse_mixture(folder, len(cases), f" ({first} belong to different series)")
    return {folder: cases[0] for folder, cases in series.items()}


def _require_one_series(folder: Path) -> None:
    """Require that ITK, the later reader, finds one series; it separates series by more than their identifier."""
    from pipeline.datasets.probes.series_image import list_series  # numpy, which --help does not need

    number = len(list_series(folder))
    if number != 1:
        raise _refuse_mixture(folder, number)


def _refuse_mixture(folder: Path, number: int, detail: str = "") -> InputError:
    return InputError(
        f"{folder} holds {number} DICOM series{detail}, of which only one would be read; use one folder per series"
    )
