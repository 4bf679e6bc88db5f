"""Volumes in NIfTI-1 and NIfTI-2, one file each (``.nii``, ``.nii.gz``), their headers parsed with nibabel.

nibabel alone checks too little: it never reads the checksum at the end of a ``.nii.gz``, so most flipped bits go
unnoticed, and it trusts any size in a header. Here the header is compared with the file before memory is allocated, and
the voxels are read to the end of the file.
"""

import gzip
import math
import zlib
from typing import IO, Any, cast

from pipeline.datasets.probes import Content, ImageError, ImageSource, Probe
from pipeline.datasets.probes.damage import explain_damage
from pipeline.datasets.probes.nifti_affine import describe_affine
from pipeline.datasets.probes.pixels import summarise_pixels

_RESTORE = "restore the file"
_GZIP = b"\x1f\x8b"
_MAGIC = {348: (b"n+1\0",), 540: (b"n+2\0\r\n\x1a\n",)}
_PAIR = (b"ni1\0", b"ni2\0")
# Deflate reaches 1 : 1032 at most, so a small file that claims more is cut off or malicious.
_MAX_RATIO = 1032
_CHUNK = 1 << 20
# Bytes that may follow the voxels as padding.
_MAX_TRAILER = 1 << 20
_MAX_EXTENSION = 1 << 26
_MAX_FILE_DIMENSIONS = 7
# Codes of units of length other than mm: their name, and millimetres.
_OTHER_UNITS = {1: ("metres", 1e3), 3: ("micrometres", 1e-3)}


def probe(source: ImageSource, decode: bool, is_mask: bool, max_pixels: int) -> Probe:
    """Read a volume; see `pipeline.datasets.probes.probe_image`.

    ``shape`` is in the order of the file (i, j, k) without a fourth axis, whose length is ``channels``; axes of length
    1 after the third are ignored. Values are scaled by ``scl_slope`` and ``scl_inter``, as readers do. The header holds
    ``ndim`` (without ignored axes), ``gzip``, ``scl_slope``, ``scl_inter`` and the facts of
    `pipeline.datasets.probes.nifti_affine.describe_affine`.

    Raises:
        ImageError: ``suffix-mismatch``, ``truncated``, ``checksum-mismatch``, ``damaged-header``, ``too-large``,
            ``ndim``, ``empty-volume``, ``image-mode``, ``not-an-image``, ``affine``.
    """
    try:
        zipped = source.head(2) == _GZIP
        with source.open() as file, cast("IO[bytes]", gzip.open(file)) if zipped else file as stream:
            header = _read_header(stream, source, zipped)
            _check_name(source, zipped)
            layout = _Layout(header, source, zipped, max_pixels)
            content = layout.read(stream, is_mask) if decode else None
    except ImageError:
        raise
    except (zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise _explain_gzip(error, source) from None
    except OSError as error:
        raise ImageError("unreadable-file", (error.strerror or str(error)).lower()) from None
    return layout.describe(content)


def _explain_gzip(error: Exception, source: ImageSource) -> ImageError:
    text = str(error)
    if isinstance(error, gzip.BadGzipFile) and ("CRC" in text or "length" in text):
        message = "the voxels do not have the checksum at the end of the gzip data: bits have changed"
        return ImageError("checksum-mismatch", message, _RESTORE)
    if isinstance(error, gzip.BadGzipFile) and "Not a gzipped file" in text:
        name = source.path.name
        message = "bytes that are not gzip data follow its end"
        return ImageError("truncated", message, f"gzip -dc '{name}' > '{name.removesuffix('.gz')}' leaves them out")
    message = f"damaged gzip data ({text.lower()})"
    if isinstance(error, EOFError):
        message = f"cut off: the gzip data end early, at {source.size()} bytes"
    elif isinstance(error, zlib.error):
        message = f"damaged inside the gzip data ({text})"
    return ImageError("truncated", message, _RESTORE)


def _damaged(message: str) -> ImageError:
    return ImageError("damaged-header", message, _RESTORE)


def _check_name(source: ImageSource, zipped: bool) -> None:
    """Raise ``suffix-mismatch`` if the name contradicts the compression, because ITK and nibabel go by the name."""
    name = source.path.name
    if name.lower().endswith(".gz") and not zipped:
        message = f"{name} is not compressed, so no reader opens it"
        raise ImageError("suffix-mismatch", message, f"rename it to {name[:-3]}, or compress it with gzip")
    if name.lower().endswith(".nii") and zipped:
        raise ImageError("suffix-mismatch", f"{name} is compressed with gzip", f"rename it to {name}.gz")


def _read_header(stream: IO[bytes], source: ImageSource, zipped: bool) -> Any:
    """Return nibabel's header; raise `ImageError` if there is none."""
    import nibabel as nib

    start = stream.read(348)
    for size, kind in ((348, nib.Nifti1Header), (540, nib.Nifti2Header)):
        for order in ("little", "big"):
            if start[:4] == size.to_bytes(4, order):
                block = start + stream.read(size - len(start))
                if len(block) < size:
                    raise ImageError("truncated", f"cut off inside the header, at {source.size()} bytes")
                header = kind(block, endianness="<" if order == "little" else ">", check=False)
                _check_magic(block[-4:] if size == 348 else block[4:12], size)
                return header
    if zipped:
        raise ImageError("not-an-image", f"compressed, but not NIfTI: starts with {start[:16]!r}", _RESTORE)
    raise explain_damage(source, ValueError("no NIfTI header"), magic=())


def _check_magic(magic: bytes, size: int) -> None:
    if magic.startswith(_PAIR):
        raise ImageError("not-an-image", "a header of a pair .hdr and .img", "convert it to one .nii.gz file")
    if magic not in _MAGIC[size]:
        raise _damaged(f"the header's magic is {magic!r}")


class _Layout:
    """Place and type of the voxels in a file, from its header, which is checked against the file first."""

    def __init__(self, header: Any, source: ImageSource, zipped: bool, max_pixels: int) -> None:
        self.header, self.source, self.zipped = header, source, zipped
        self.dtype = self._check_type()
        full_shape = self._check_shape(max_pixels)
        self.shape, self.channels = full_shape[:3], math.prod(full_shape[3:])
        self.length = math.prod(full_shape) * int(self.dtype.itemsize)
        self.offset = self._check_offset()
        self.slope, self.inter = self._check_scaling()
        self._check_size()
        self._check_units()

    def _check_type(self) -> Any:
        from nibabel.spatialimages import HeaderDataError

        try:
            dtype = self.header.get_data_dtype()
        except (HeaderDataError, KeyError):
            raise _damaged(f"the header names the unknown data type {int(self.header['datatype'])}") from None
        if dtype.names or dtype.kind not in "iuf" or dtype.itemsize > 8:
            what = "RGB colours" if dtype.names else str(dtype)
            message = f"the voxels are {what}, expected whole numbers or floats of up to 64 bits"
            raise ImageError("image-mode", message, "convert the volume")
        return dtype

    def _check_shape(self, max_pixels: int) -> tuple[int, ...]:
        dim = [int(length) for length in self.header["dim"]]
        if not 1 <= dim[0] <= _MAX_FILE_DIMENSIONS or min(dim[1 : dim[0] + 1]) < 0:
            raise _damaged(f"the header's sizes are {dim}")
        shape = tuple(dim[1 : dim[0] + 1])
        if 0 in shape:
            raise ImageError("empty-volume", f"the volume is {_size(shape)}: there is no voxel", "leave the file out")
        if math.prod(shape) > max_pixels:
            message = f"{_size(shape)} voxels; the limit is {max_pixels} voxels"
            raise ImageError("too-large", message, "crop it")
        if sum(length > 1 for length in shape[3:]) > 1:
            raise ImageError("ndim", f"the volume is {_size(shape)}, expected 3 axes", "save one file per volume")
        return shape

    def _check_offset(self) -> int:
        offset = float(self.header["vox_offset"])
        first = int(self.header["sizeof_hdr"]) + 4
        place = f"the header puts the first voxel at byte {offset:g}"
        if not math.isfinite(offset) or offset < first or offset % 1:
            raise _damaged(f"{place}, expected {first} or more")
        if offset > first + _MAX_EXTENSION:
            raise _damaged(f"{place}, no header is that long")
        return int(offset)

    def _check_scaling(self) -> tuple[float, float]:
        slope, inter = float(self.header["scl_slope"]), float(self.header["scl_inter"])
        # NIfTI: a slope of 0 means no scaling; nibabel writes not-a-number for it.
        if slope == 0 or math.isnan(slope):
            return 1.0, 0.0
        if math.isinf(slope) or not math.isfinite(inter):
            raise _damaged(f"the header scales by {slope:g} and adds {inter:g}")
        return slope, inter

    def _check_units(self) -> None:
        """Refuse lengths in metres or micrometres, which all readers take as millimetres."""
        code = int(self.header["xyzt_units"]) & 7
        if code not in _OTHER_UNITS:
            return
        unit, factor = _OTHER_UNITS[code]
        sizes = " x ".join(f"{abs(float(size)):g}" for size in self.header["pixdim"][1:4])
        message = f"the header gives lengths in {unit}, readers take them as mm: voxels of {sizes} mm"
        hint = f"multiply the affine by {factor:g} unless it holds mm, and set the unit: header.set_xyzt_units('mm')"
        raise ImageError("affine", message, hint)

    def _check_size(self) -> None:
        """Compare the size in the header with that of the file, before memory is allocated."""
        size, claimed = self.source.size(), self.offset + self.length
        if claimed > (size * _MAX_RATIO if self.zipped else size):
            holds = f"{size} bytes of gzip data" if self.zipped else f"{size} bytes"
            message = f"cut off: the header claims {claimed} bytes, the file has {holds}"
            raise ImageError("truncated", message, _RESTORE)

    def read(self, stream: IO[bytes], is_mask: bool) -> Content:
        """Return the statistics of the voxels, the stream read to its end so that gzip compares its checksum."""
        import numpy as np

        position = stream.tell()
        # Extensions between header and voxels are skipped.
        _read_exactly(stream, self.offset - position)
        data = _read_exactly(stream, self.length)
        trailing = 0
        while chunk := stream.read(_CHUNK):
            trailing += len(chunk)
            if trailing > _MAX_TRAILER:
                raise _damaged(f"more than {_MAX_TRAILER} bytes follow the voxels that the header claims")
        array = np.frombuffer(data, dtype=self.dtype).reshape((*self.shape, self.channels), order="F")
        array = array[..., 0] if self.channels == 1 else array
        if (self.slope, self.inter) != (1.0, 0.0):
            array = array.astype(np.float64) * self.slope + self.inter
        with np.errstate(all="ignore"):
            return summarise_pixels(array, is_mask)

    def describe(self, content: Content | None) -> Probe:
        """Return the properties of the file."""
        ndim = len(self.shape) + (self.channels > 1)
        affine, spacing, facts = describe_affine(self.header, self.shape)
        facts |= {"ndim": ndim, "gzip": self.zipped, "scl_slope": self.slope, "scl_inter": self.inter}
        return Probe(
            format="NIfTI",
            shape=self.shape,
            channels=self.channels,
            pages=1,
            content=content,
            dtype=self.dtype.name,
            spacing=spacing,
            affine=affine,
            header=facts,
        )


def _read_exactly(stream: IO[bytes], length: int) -> bytearray:
    data = bytearray()
    while len(data) < length:
        chunk = stream.read(min(_CHUNK, length - len(data)))
        if not chunk:
            message = f"cut off: {length - len(data)} bytes of voxels are missing"
            raise ImageError("truncated", message, _RESTORE)
        data += chunk
    return data


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
