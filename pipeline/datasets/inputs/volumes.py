"""Find volumes for inference: NIfTI, MetaImage and NRRD files, and DICOM series."""

import fnmatch
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.datasets.inputs.images import find_root, name_files
from pipeline.datasets.inputs.refusals import Inputs, Refuse, keep_going, list_paths
from pipeline.datasets.manifests.manifest import Case
from pipeline.datasets.probes import VOLUMES, ImageSource, expected_format, find_ending, is_dicom
from pipeline.issues import InputError

#: Files next to the volumes that are not inputs: masks, labels of a Decathlon dataset, outputs of a run
VOLUME_EXCLUDE = (
    *("*_mask.*", "*_seg.*", "*.seg.*", "*_label.*", "*_labels.*", "labelst[rs]/*", "*/labelst[rs]/*"),
    *("*_pred.*", "*_overlay.*", "*_figure.*", "*_probability*.*", "*_doubt.*"),
)
# A segmentation that a prediction wrote.
_RESULT = "*_pred.dcm"
_EXPECTED = (
    "expected a NIfTI, MetaImage or NRRD file (.nii, .nii.gz, .mha, .mhd, .nrrd, .nhdr),"
    " the folder of a DICOM series, or a folder with these"
)


def find_volumes(
    input: Inputs,
    *,
    channels: int | None = 1,
    exclude: Sequence[str] = VOLUME_EXCLUDE,
    refused: Refuse | None = None,
) -> list[dict[str, Any]]:
    """Find volumes for inference, and check that they can be read before the network starts.

    Args:
        input: a NIfTI, MetaImage or NRRD file, the folder of a DICOM series, or a folder that holds both at any depth;
            or several of these. A DICOM file stands for its folder.
        channels: required length of the fourth axis, 1 for three axes; None accepts any number.
        exclude: patterns of files that are not images, compared without case with the file's path below
            ``input``. Hidden files are always ignored.
        refused: gets the path of each volume that is refused, and why; by default the first one ends the search.

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

    paths = [path.parent if _is_slice(path) else path for path in list_paths(input)]
    volumes, series = _find_all(list(dict.fromkeys(paths)), exclude, refused)
    root = find_root(paths)
    cases = {
        file: replace(case, case_id=str(file), image=tuple(os.path.relpath(image, root) for image in case.image))
        for file, case in {**volumes, **series}.items()
    }
    sound = {Path(case.case_id) for case in require_sound(root, list(cases.values()), channels, refused)}
    for folder in sound & set(series):
        if not _is_one_series(folder, refused):
            sound.discard(folder)
    found = [*volumes, *series]
    ids = name_files(root, found, [*map(_cut_ending, volumes), *("" for _ in series)])
    return [{"case_id": name, "image": str(file)} for name, file in zip(ids, found, strict=True) if file in sound]


def _cut_ending(file: Path) -> str:
    """Return the ending of a file's name, as written."""
    return file.name[len(file.name) - len(find_ending(file.name)) :]


def _is_slice(path: Path) -> bool:
    """Return whether a path is a DICOM file, by its name or its first bytes."""
    if not os.path.isfile(path):
        return False
    return expected_format(path.name) == "DICOM" or (not find_ending(path.name) and is_dicom(ImageSource(path)))


def _find_all(
    paths: Sequence[Path], exclude: Sequence[str], refused: Refuse | None
) -> tuple[dict[Path, Case], dict[Path, Case]]:
    """Return the files of volumes and the folders of series."""
    volumes: dict[Path, Case] = {}
    series: dict[Path, Case] = {}
    for path in paths:
        with keep_going(path, refused):
            found, folders = _find(path, exclude, refused)
            volumes |= found
            series |= folders
    return volumes, series


def _find(path: Path, exclude: Sequence[str], refused: Refuse | None) -> tuple[dict[Path, Case], dict[Path, Case]]:
    """Return the same for one input; the images of a case are absolute paths."""
    from pipeline.datasets.layouts.listing import list_files

    if os.path.isfile(path):
        if expected_format(path.name) not in VOLUMES:
            raise InputError(f"{path} is not a volume: {_EXPECTED}")
        return {path: _make_case(path)}, {}
    if not os.path.isdir(path):
        raise InputError(f"no such file or folder: {path}; {_EXPECTED}")
    files = list_files(path).files
    volumes = {path / name: _make_case(path / name) for name in files if _is_volume(name, exclude)}
    series = _find_sound_series(path, files, refused)
    if not volumes and not series and refused is None:
        raise InputError(f"no volume in {path}; {_EXPECTED}")
    return volumes, series


def _make_case(*files: Path) -> Case:
    return Case(str(files[0]), "", tuple(map(str, files)))


def _is_volume(name: str, exclude: Sequence[str]) -> bool:
    if expected_format(name) not in VOLUMES:
        return False
    return not any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for pattern in exclude)


def _find_sound_series(root: Path, files: Sequence[str], refused: Refuse | None) -> dict[Path, Case]:
    """Return the series of a tree by their folder; where one is refused, the others are looked at one by one."""
    try:
        return _find_series(root, files)
    except InputError:
        if refused is None:
            raise
    folders: dict[PurePosixPath, list[str]] = defaultdict(list)
    for name in files:
        folders[PurePosixPath(name).parent].append(name)
    series: dict[Path, Case] = {}
    for folder, names in folders.items():
        with keep_going(root / folder, refused):
            series |= _find_series(root, names)
    return series


def _find_series(root: Path, files: Sequence[str]) -> dict[Path, Case]:
    """Return the series of a tree by their folder.

    Raises:
        InputError: a DICOM file cannot be read, or a folder holds several series.
    """
    from pipeline.datasets.layouts.dicom import may_be_dicom, read
    from pipeline.datasets.layouts.listing import Listing

    listing = Listing(root, tuple(files))
    slices = [name for name in files if not fnmatch.fnmatchcase(name.lower(), _RESULT) and may_be_dicom(listing, name)]
    listing = Listing(root, tuple(slices))
    if not listing.files:
        return {}
    series: dict[Path, list[Case]] = defaultdict(list)
    for case in read(listing).manifest.cases:
        series[(root / case.image[0]).parent].append(case)
    for folder, cases in series.items():
        if len(cases) > 1:
            first = " and ".join(Path(case.image[0]).name for case in cases[:2])
            raise _refuse_mixture(folder, len(cases), f" ({first} belong to different series)")
    return {folder: _make_case(*(root / image for image in cases[0].image)) for folder, cases in series.items()}


def _is_one_series(folder: Path, refused: Refuse | None) -> bool:
    """Require that ITK, the later reader, finds one series; it separates series by more than their identifier."""
    from pipeline.datasets.probes.series_image import list_series  # numpy, which --help does not need

    number = len(list_series(folder))
    with keep_going(folder, refused):
        if number != 1:
            raise _refuse_mixture(folder, number)
    return number == 1


def _refuse_mixture(folder: Path, number: int, detail: str = "") -> InputError:
    return InputError(
        f"{folder} holds {number} DICOM series{detail}, of which only one would be read; use one folder per series"
    )
