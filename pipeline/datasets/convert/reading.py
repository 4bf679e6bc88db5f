"""Read images and masks of a case as arrays from any supported file format."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.datasets.coco import rasterise, read_annotations, read_policy
from pipeline.datasets.files import locate_file
from pipeline.datasets.manifests.manifest import Case, Manifest, split_fragment
from pipeline.datasets.probes import VOLUMES, ImageError, expected_format, itk_volume
from pipeline.datasets.probes.itk_module import READING, load_itk
from pipeline.datasets.probes.orientation import turn_to_stored
from pipeline.datasets.probes.pixels import merge_channels, round_labels
from pipeline.datasets.probes.series_image import compute_affine, read_series
from pipeline.issues import InputError

#: Label of pixels that are not scored
IGNORED = -1
# ITK's first axis of a picture runs along the columns to the left; NIfTI counts to the right and anterior.
PICTURE_AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
# EXIF tag of a picture's orientation.
_ORIENTATION = 0x0112
# TIFF tag of the meaning of 0: white, or black.
_PHOTOMETRIC = 262


@dataclass(frozen=True)
class Grid:
    """The grid of an image."""

    shape: tuple[int, ...]  #: its spatial axes
    affine: NDArray[np.float64] | None = None  #: voxel index to world in mm (RAS); None for pictures


@dataclass(frozen=True)
class Volume:
    """An image or a mask on its grid."""

    #: image ``(C, *spatial)``, mask ``(*spatial)``. ``spatial`` is (rows, columns) for a picture, (columns, rows,
    #: slices) for a stack of pictures, and the order of the file for volumes
    array: NDArray[Any]
    affine: NDArray[np.float64] | None = None  #: voxel index to world in mm (RAS); None for pictures
    header: Any = None  #: nibabel's header of its file, None for other formats

    def grid(self) -> Grid:
        """Return the grid of an image ``(C, *spatial)``."""
        return Grid(self.array.shape[1:], self.affine)

    def is_placed(self) -> bool:
        """Return whether its file says where it is and how large its voxels are; a stack of pictures does not."""
        return self.affine is not None and self.affine is not PICTURE_AFFINE


def is_volume(manifest: Manifest, case: Case) -> bool:
    """Return whether a case has three spatial axes: a volume, a series, or a stack of several pictures."""
    if manifest.stacking == "series" or expected_format(case.image[0]) in (*VOLUMES, "DICOM"):
        return True
    return manifest.stacking == "slices" and len(case.image) > 1


def read_image(manifest: Manifest, case: Case, root: Path) -> Volume:
    """Read the image of a case.

    Returns:
        Array ``(C, *spatial)`` in the type of the file. The voxel size of a stack of pictures is unknown and taken as
        1 mm; its axes are oriented as in ITK's series of pictures.

    Raises:
        InputError: a file cannot be read, or files of one case differ in size.
    """
    files = [locate_file(root, path) for path in case.image]
    try:
        if manifest.stacking == "series" or expected_format(case.image[0]) == "DICOM":
            return _read_series(files)
        if expected_format(case.image[0]) in VOLUMES:
            return _read_channels(files, len(manifest.channels))
        wanted = len(manifest.channels) if manifest.stacking == "slices" else 1
        pictures = [_read_picture(file, wanted) for file in files]
    except (OSError, ValueError, SyntaxError, RuntimeError, EOFError, ImageError) as error:
        raise InputError(f"{case.case_id}: cannot read {case.image[0]}: {error}") from None
    _require_one_shape(case, pictures)
    if manifest.stacking == "channels":
        return Volume(np.concatenate(pictures))
    return Volume(pictures[0]) if len(files) == 1 else _stack(pictures)


def _require_one_shape(case: Case, arrays: Sequence[NDArray[Any]]) -> None:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise InputError(f"{case.case_id}: its files differ in size: {', '.join(map(str, sorted(shapes)))}")


def _stack(pictures: Sequence[NDArray[Any]]) -> Volume:
    """Stack (C, H, W) or (H, W) to (C, W, H, D) or (W, H, D)."""
    array = np.stack(pictures, axis=-1)
    return Volume(np.ascontiguousarray(np.swapaxes(array, -3, -2)), PICTURE_AFFINE)


def _read_picture(path: Path, channels: int) -> NDArray[Any]:
    """Return a picture as (C, H, W), without an alpha channel that is not among the wanted channels."""
    array = _read_pixels(path)
    array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    # The checks refuse transparent pictures, so no information is lost.
    return array[:-1] if array.shape[0] in (2, 4) and array.shape[0] == channels + 1 else array


def _read_pixels(path: Path) -> NDArray[Any]:
    with Image.open(path) as picture:
        array: NDArray[Any] = np.asarray(picture)
    # In the byte order of this machine, which writers expect.
    return array.astype(np.uint8 if array.dtype == np.bool_ else array.dtype.newbyteorder("="), copy=False)


def is_plain(path: Path) -> bool:
    """Return whether every program reads the same pixels: no palette, alpha, 1 bit, EXIF orientation or inversion."""
    with Image.open(path) as picture:
        turned = picture.getexif().get(_ORIENTATION, 1) != 1
        inverted = picture.format == "TIFF" and getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0
        return picture.mode in ("L", "RGB", "I;16", "I", "F") and not turned and not inverted


def read_volume(path: Path) -> Volume:
    """Read a NIfTI, MetaImage or NRRD file, scaled by its header, without trailing axes of length 1 after the third."""
    if expected_format(path.name) == "NIfTI":
        file: Any = nibabel.load(path)
        volume = Volume(np.asanyarray(file.dataobj), file.affine, file.header)
    else:
        volume = Volume(*itk_volume.read_array(path))
    array = volume.array
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    return replace(volume, array=array)


def read_grid(path: Path) -> tuple[Grid, int]:
    """Return the grid and the number of axes of a NIfTI file from its header."""
    file: Any = nibabel.load(path)
    return Grid(tuple(file.shape[:3]), file.affine), len(file.shape)


def _read_channels(files: Sequence[Path], channels: int) -> Volume:
    volumes = [read_volume(file) for file in files]
    first = volumes[0]
    if len({volume.array.shape for volume in volumes}) > 1:
        raise ValueError("the channels differ in size")
    if first.array.ndim == 4:
        return Volume(np.moveaxis(first.array, -1, 0), first.affine, first.header)
    return Volume(np.stack([volume.array for volume in volumes]), first.affine, first.header)


def _read_series(files: Sequence[Path]) -> Volume:
    """Read the files of a DICOM series, in this order, with NIfTI's axes."""
    itk = load_itk()
    with READING:
        image = read_series([str(file) for file in files])
        array = _fit_type(np.array(itk.array_view_from_image(image)))
        affine = compute_affine(image)
    return Volume(np.ascontiguousarray(array.T)[None], affine)


def _fit_type(array: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers as integers, int16 if that holds them."""
    for dtype in (np.int16, np.int32):
        limits = np.iinfo(dtype)
        # float32 holds integers up to 2 ** 24 exactly.
        if limits.min <= array.min() and array.max() <= min(limits.max, 1 << 24) and not (array % 1).any():
            return array.astype(dtype)
    return array


def read_labels(manifest: Manifest, case: Case, root: Path) -> tuple[Volume, NDArray[Any] | None]:
    """Read the mask of a case.

    Returns:
        The mask as label ids, or object numbers if the manifest says ``"instance"``, int32, with `IGNORED` pixels; and
        the stored values if the mask is one file, else None.

    Raises:
        InputError: a file cannot be read, or has values that the manifest does not define.
    """
    paths = case.label or ()
    try:
        if split_fragment(paths[0])[1]:
            return Volume(_rasterise(manifest, paths[0], root)), None
        if expected_format(paths[0]) in VOLUMES:
            stored = read_volume(locate_file(root, paths[0]))
            return Volume(encode_labels(manifest, stored.array, paths[0]), stored.affine, stored.header), stored.array
        masks = [_read_mask(manifest, path, root) for path in paths]
    except (OSError, ValueError, SyntaxError, EOFError, ImageError) as error:
        raise InputError(f"{case.case_id}: cannot read {paths[0]}: {error}") from None
    labels = [label for label, _ in masks]
    _require_one_shape(case, labels)
    if is_volume(manifest, case):
        return _stack(labels), None
    # Several masks of one picture are united.
    return (Volume(np.maximum.reduce(labels)), None) if len(labels) > 1 else (Volume(labels[0]), masks[0][1])


def _rasterise(manifest: Manifest, path: str, root: Path) -> NDArray[np.int32]:
    file, image_id = split_fragment(path)
    categories, crowd = read_policy(manifest)
    annotations = read_annotations(locate_file(root, file))
    mask = rasterise(annotations, image_id, categories, crowd, manifest.mask_type == "instance")
    return np.asarray(turn_to_stored(mask, manifest.find_turn(path)), np.int32)


def _read_mask(manifest: Manifest, path: str, root: Path) -> tuple[NDArray[np.int32], NDArray[Any] | None]:
    file = locate_file(root, path)
    with Image.open(file) as picture:
        # Grey masks of a dataset with colours are read by value.
        coloured = bool(manifest.color_map) and picture.mode in ("RGB", "RGBA", "P")
        colours = np.asarray(picture.convert("RGB") if coloured else [], np.int32)
    if not coloured:
        stored = _read_pixels(file)
        plain = stored.ndim == 2 and is_plain(file)
        return encode_labels(manifest, merge_channels(stored), path), stored if plain else None
    codes = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
    table = {int(name[1:], 16): label for name, label in manifest.color_map.items()}
    return _look_up(codes, table, path), None


def encode_labels(manifest: Manifest, stored: NDArray[Any], path: str) -> NDArray[np.int32]:
    """Convert the values of a mask file, rounded as `round_labels` does, to label ids by the manifest's rules.

    Raises:
        InputError: the mask has values that the manifest does not define.
    """
    stored = round_labels(stored)
    if manifest.binarize is not None:
        return (stored >= manifest.binarize).astype(np.int32)
    if manifest.mask_type == "instance":
        return stored.astype(np.int32)
    table = dict(manifest.mask_values) or {label: label for label in manifest.labels}
    if manifest.ignore_index is not None:
        table[manifest.ignore_index] = IGNORED
    return _look_up(stored, table, path)


def _look_up(stored: NDArray[Any], table: dict[int, int], path: str) -> NDArray[np.int32]:
    labels = np.full(stored.shape, IGNORED - 1, np.int32)
    for value, label in table.items():
        labels[stored == value] = label
    unknown = labels == IGNORED - 1
    if unknown.any():
        first = stored[unknown][0]
        raise InputError(
            f"{path}: {int(unknown.sum())} pixels of the mask have values that the manifest does not define,"
            f" for example {first:g}; pipeline dataset check --deep lists them"
        )
    return labels
