"""Volumes in MetaImage (``.mha``, ``.mhd``) and NRRD (``.nrrd``, ``.nhdr``), read by ITK.

ITK's reader of MetaImage ignores an error in compressed voxels and returns an image of something else, and prints lines
of its own where a file is cut off, so `pipeline.datasets.probes.itk_data` looks at the bytes first.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.probes import Content, ImageError, ImageSource, Probe
from pipeline.datasets.probes.itk_data import RESTORE, check_data, is_nrrd
from pipeline.datasets.probes.itk_module import READING, load_itk
from pipeline.datasets.probes.nifti_affine import find_affine_problem, name_orientation
from pipeline.datasets.probes.pixels import summarise_pixels

_AXES = 3
_FORMATS = {"MetaImageIO": "MetaImage", "NrrdImageIO": "NRRD"}
_PIXELS = ("scalar", "vector", "rgb", "rgba", "covariant_vector")
# ITK's names of types, and numpy's.
_TYPES = {
    **{"char": "int8", "unsigned_char": "uint8", "short": "int16", "unsigned_short": "uint16"},
    **{"int": "int32", "unsigned_int": "uint32", "long": "int64", "unsigned_long": "uint64"},
    **{"long_long": "int64", "unsigned_long_long": "uint64", "float": "float32", "double": "float64"},
}
_WIDER = {"char": "SS", "long": "D", "long_long": "D"}


def probe(source: ImageSource, decode: bool, is_mask: bool, max_pixels: int) -> Probe:
    """Read a volume; see `pipeline.datasets.probes.probe_image`.

    ``shape`` is in the order of the file (i, j, k) without a fourth axis; ``channels`` is its length, or the number of
    values of a voxel. The header holds ``ndim``, ``orientation`` and ``affine_problem``, as that of a NIfTI file. The
    voxels of ``.mhd`` and ``.nhdr`` are in another file of the same folder.

    Raises:
        ImageError: ``missing-file``, ``truncated``, ``not-an-image``, ``too-large``, ``ndim``, ``empty-volume``,
            ``image-mode``, ``damaged-header``.
    """
    check_data(source.path)
    header = _read_header(source.path)
    sizes = _check_shape(header, max_pixels)
    affine = read_header_affine(header)
    problem = find_affine_problem(affine)
    kind = _read_type(header)
    content = _summarise(source.path, is_mask) if decode and not problem else None
    spacing = tuple(round(float(size), 6) for size in np.linalg.norm(affine[:_AXES, :_AXES], axis=0))[: len(sizes)]
    ndim = min(len(sizes), _AXES) + (len(sizes) > _AXES)
    orientation = "" if problem else name_orientation(affine)
    return Probe(
        format=_FORMATS[header.GetNameOfClass()],
        shape=sizes[:_AXES],
        channels=int(header.GetNumberOfComponents()) * math.prod(sizes[_AXES:]),
        pages=1,
        content=content,
        dtype=kind,
        spacing=() if problem else spacing,
        affine=() if problem else tuple(tuple(float(value) for value in row) for row in affine),
        header={"ndim": ndim, "orientation": orientation, "affine_problem": problem},
    )


def read_volume(path: Path) -> Any:
    """Return a file as ITK image.

    Whole numbers of 8 and 64 bits, and voxels of several values, for which ITK in Python has no image, get a wider
    type.

    Raises:
        ImageError: the file is damaged, cut off, or its data file is missing.
    """
    itk = load_itk()

    check_data(path)
    header = _read_header(path)
    name = header.GetComponentTypeAsString(header.GetComponentType())
    try:
        with READING:
            if header.GetNumberOfComponents() > 1:
                reader = itk.ImageFileReader[itk.VectorImage[itk.D, _AXES]].New(FileName=str(path), ImageIO=header)
                reader.Update()
                return reader.GetOutput()
            wider = getattr(itk, _WIDER[name]) if name in _WIDER else None
            return itk.imread(str(path), pixel_type=wider, imageio=header)
    except RuntimeError as error:
        raise _explain(path, error) from None


def read_array(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return the voxels of a file, ``(i, j, k)`` or with channels last, and their affine (RAS, 4 x 4).

    Raises:
        ImageError: the file is damaged, cut off, or its data file is missing.
    """
    itk = load_itk()

    image = read_volume(path)
    array = itk.array_view_from_image(image).T
    array = np.moveaxis(array, 0, -1) if image.GetNumberOfComponentsPerPixel() > 1 else array
    return np.ascontiguousarray(array), read_header_affine(_read_header(path))


def read_place(path: Path) -> tuple[tuple[int, ...], Any]:
    """Return the size of a file in voxels along its axes of space, and its ITK header, which places them.

    Raises:
        ImageError: the file is damaged, cut off, or its data file is missing.
    """
    check_data(path)
    header = _read_header(path)
    return tuple(int(header.GetDimensions(axis)) for axis in range(min(header.GetNumberOfDimensions(), _AXES))), header


def read_header_affine(header: Any) -> NDArray[np.float64]:
    """Return the affine of an ITK header: voxel index to mm (RAS), 4 x 4."""
    axes = min(int(header.GetNumberOfDimensions()), _AXES)
    affine = np.eye(_AXES + 1)
    for axis in range(axes):
        affine[:axes, axis] = np.asarray(header.GetDirection(axis))[:axes] * header.GetSpacing(axis)
        affine[axis, _AXES] = header.GetOrigin(axis)
    # ITK counts to the left and posterior, NIfTI to the right and anterior.
    affine[:2] *= -1
    return affine + 0.0  # without -0.0


def place_like(image: Any, header: Any) -> None:
    """Give an ITK image with three axes exactly the origin, voxel sizes and directions of a header."""
    itk = load_itk()

    axes = range(_AXES)
    image.SetOrigin([header.GetOrigin(axis) for axis in axes])
    image.SetSpacing([header.GetSpacing(axis) for axis in axes])
    columns = np.array([np.asarray(header.GetDirection(axis))[:_AXES] for axis in axes])
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(columns.T)))


def _read_header(path: Path) -> Any:
    """Return ITK's reader of a file, the header read."""
    itk = load_itk()

    with READING:
        # ITK's own choice fails for names in capital letters.
        header = (itk.NrrdImageIO if is_nrrd(path) else itk.MetaImageIO).New(FileName=str(path))
        try:
            header.ReadImageInformation()
        except RuntimeError as error:
            raise _explain(path, error) from None
    return header


def _check_shape(header: Any, max_pixels: int) -> tuple[int, ...]:
    sizes = tuple(int(header.GetDimensions(axis)) for axis in range(header.GetNumberOfDimensions()))
    shown = " x ".join(map(str, sizes))
    if 0 in sizes:
        raise ImageError("empty-volume", f"the volume is {shown}: there is no voxel", "leave the file out")
    if math.prod(sizes) > max_pixels:
        message = f"{shown} voxels; the limit is {max_pixels} voxels"
        raise ImageError("too-large", message, "crop it")
    while len(sizes) > _AXES and sizes[-1] == 1:
        sizes = sizes[:-1]
    if not 1 < len(sizes) <= _AXES + 1 or (len(sizes) > _AXES and header.GetNumberOfComponents() > 1):
        raise ImageError("ndim", f"the volume is {shown}, expected 3 axes", "save one file per volume")
    return sizes


def _read_type(header: Any) -> str:
    kind = header.GetPixelTypeAsString(header.GetPixelType())
    name = _TYPES.get(header.GetComponentTypeAsString(header.GetComponentType()), "")
    if kind not in _PIXELS or not name:
        message = f"the voxels are {kind}, expected whole numbers or floats of up to 64 bits"
        raise ImageError("image-mode", message, "convert the volume")
    return name


def _summarise(path: Path, is_mask: bool) -> Content:
    array, _ = read_array(path)
    with np.errstate(all="ignore"):
        return summarise_pixels(array, is_mask)


def _explain(path: Path, error: RuntimeError) -> ImageError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ImageError("truncated", f"damaged or cut off at {path.stat().st_size} bytes ({lines[-1]})", RESTORE)
