"""The bytes of the voxels of a MetaImage or NRRD file: their place, their number, and the checksum of zlib."""

import zlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.probes import ImageError, ImageSource
from pipeline.datasets.probes.damage import explain_damage

RESTORE = "restore the file"
_NRRD = b"NRRD"
_MAGIC = (b"ObjectType", b"NDims", b"Comment", _NRRD)
_MAX_HEADER = 1 << 20
_CHUNK = 1 << 20
#: Bytes of a voxel by MetaImage's name of its type
_SIZES = {
    **dict.fromkeys(("MET_CHAR", "MET_UCHAR"), 1),
    **dict.fromkeys(("MET_SHORT", "MET_USHORT"), 2),
    **dict.fromkeys(("MET_INT", "MET_UINT", "MET_LONG", "MET_ULONG", "MET_FLOAT"), 4),
    **dict.fromkeys(("MET_LONG_LONG", "MET_ULONG_LONG", "MET_DOUBLE"), 8),
}


@dataclass(frozen=True)
class _Header:
    """The text before the voxels."""

    fields: dict[str, str]  #: values by name, in lower case
    length: int  #: bytes of the text


def is_nrrd(path: Path) -> bool:
    """Return whether a file has the mark of NRRD; else it is MetaImage, which has none."""
    return ImageSource(path).head(4) == _NRRD


def check_data(path: Path) -> None:
    """Check that the voxels of a file are there, as many as its header says, and intact if zlib compressed them.

    NRRD's own reader checks numbers and checksums; here only that the data file is there.

    Raises:
        ImageError: ``missing-file``, ``truncated``, ``not-an-image``, ``damaged-header``.
    """
    source = ImageSource(path)
    if is_nrrd(path):
        header = _read_text(source, ":", ())
        _find_file(path, header.fields.get("data file") or header.fields.get("datafile", "LOCAL"))
        return
    header = _read_text(source, "=", ("dimsize", "elementtype", "elementdatafile"))
    name = header.fields["elementdatafile"]
    data = _find_file(path, name)
    start = header.length if data == path else max(0, int(header.fields.get("headersize", "0")))
    if header.fields.get("compresseddata", "").lower() == "true":
        _check_compressed(data, start, _count_bytes(header.fields))
    elif header.fields.get("binarydata", "").lower() == "true":  # else numbers as text
        _check_length(data, start, _count_bytes(header.fields))


def _read_text(source: ImageSource, separator: str, required: tuple[str, ...]) -> _Header:
    """Return the header, which ends with an empty line, or with the name of the data file (MetaImage)."""
    fields: dict[str, str] = {}
    length = 0
    with source.open() as stream:
        for line in iter(lambda: stream.readline(_MAX_HEADER), b""):
            length += len(line)
            name, _, value = line.decode("latin-1").partition(separator)
            fields[name.strip().lower()] = value.strip()
            if length > _MAX_HEADER or not line.strip() or (required and name.strip().lower() == required[-1]):
                break
    if any(name not in fields for name in required):
        if source.head(_MAX_HEADER).startswith(_MAGIC):
            raise ImageError("truncated", f"cut off inside the header, at {source.size()} bytes", RESTORE)
        raise explain_damage(source, ValueError("no header"), magic=())
    return _Header(fields, length)


def _find_file(path: Path, name: str) -> Path:
    """Return the file of the voxels."""
    if name.upper() == "LOCAL":
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise ImageError("damaged-header", "its voxels are in several files", "save it as one .mha or .nrrd file")
    if Path(name).name != name.removeprefix("./"):
        message = f"its voxels are in {name}, expected a file in the same folder"
        raise ImageError("damaged-header", message, "save it as one .mha or .nrrd file")
    data = path.with_name(Path(name).name)
    if not data.is_file():
        raise ImageError("missing-file", f"its voxels are in {name}, which is missing", f"put {name} beside it")
    return data


def _count_bytes(fields: dict[str, str]) -> int:
    try:
        count = int(fields.get("elementnumberofchannels", "1")) * _SIZES[fields["elementtype"].upper()]
        for size in fields["dimsize"].split():
            count *= int(size)
    except (KeyError, ValueError):
        message = f"the header gives the size {fields['dimsize']!r} and the type {fields['elementtype']!r}"
        raise ImageError("damaged-header", message, RESTORE) from None
    return count


def _check_length(data: Path, start: int, expected: int) -> None:
    missing = expected - (data.stat().st_size - start)
    if missing > 0:
        raise ImageError("truncated", f"cut off: {missing} bytes of voxels are missing in {data.name}", RESTORE)


def _check_compressed(data: Path, start: int, expected: int) -> None:
    unpacked, stream = 0, zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # zlib or gzip
    try:
        with data.open("rb") as file:
            file.seek(start)
            while not stream.eof and (chunk := stream.unconsumed_tail or file.read(_CHUNK)):
                unpacked += len(stream.decompress(chunk, _CHUNK))
        unpacked += len(stream.flush())
    except zlib.error as error:
        message = f"damaged inside the compressed voxels of {data.name} ({error})"
        raise ImageError("truncated", message, RESTORE) from None
    if not stream.eof or unpacked != expected:
        raise ImageError("truncated", f"cut off: {data.name} holds {unpacked} of {expected} bytes of voxels", RESTORE)
