"""MetaImage and NRRD files written and read without ITK, so that tests compare with something else."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_META = {
    **{"int8": "MET_CHAR", "uint8": "MET_UCHAR", "int16": "MET_SHORT", "uint16": "MET_USHORT", "int32": "MET_INT"},
    **{"uint32": "MET_UINT", "int64": "MET_LONG_LONG", "uint64": "MET_ULONG_LONG"},
    **{"float32": "MET_FLOAT", "float64": "MET_DOUBLE"},
}
_NRRD = {"float32": "float", "float64": "double"}
_OF_META = {name: dtype for dtype, name in _META.items()}


@dataclass(frozen=True)
class Place:
    """Where a volume is, in mm to the left, posterior and superior, as these formats count."""

    origin: tuple[float, ...] = (0.0, 0.0, 0.0)
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    #: one row per axis of the file
    directions: tuple[tuple[float, ...], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def locate(self, index: Any) -> np.ndarray:
        """Return the position of a voxel in mm to the right, anterior and superior."""
        steps = np.asarray(index) * np.asarray(self.spacing)
        return (np.asarray(self.origin) + steps @ np.asarray(self.directions)) * (-1, -1, 1)


def write_file(
    path: Path, voxels: np.ndarray, place: Place = Place(), *, packed: bool = False, big: bool = False
) -> Path:
    """Write voxels ``(X, Y, Z)`` or ``(X, Y, Z, C)``; ``.mhd`` and ``.nhdr`` get a file ``<stem>.raw`` beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order = np.moveaxis(voxels, -1, 0) if voxels.ndim > 3 else voxels
    data = order.astype(order.dtype.newbyteorder(">" if big else "<")).tobytes("F")
    nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    data = data if not packed else _gzip(data) if nrrd else zlib.compress(data)
    raw = "" if path.suffix.lower() in (".mha", ".nrrd") else f"{path.stem}.raw"
    header = (_describe_nrrd if nrrd else _describe_meta)(voxels, place, raw, packed, big, len(data))
    if raw:
        path.with_name(raw).write_bytes(data)
    path.write_bytes(header.encode() + (b"" if raw else data))
    return path


def read_mask(path: Path) -> tuple[np.ndarray, Place]:
    """Return voxels and place of a file of one channel that ITK wrote."""
    header, data = (_read_nrrd if path.suffix == ".nrrd" else _read_meta)(path.read_bytes())
    voxels = np.frombuffer(data, header["dtype"]).reshape(header["shape"], order="F")
    return voxels, header["place"]


def _numbers(values: Any) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


def _describe_meta(voxels: np.ndarray, place: Place, raw: str, packed: bool, big: bool, length: int) -> str:
    lines = [
        *("ObjectType = Image", "NDims = 3", "BinaryData = True", f"BinaryDataByteOrderMSB = {big}"),
        *([f"CompressedData = True\nCompressedDataSize = {length}"] if packed else ["CompressedData = False"]),
        f"TransformMatrix = {_numbers(place.directions)}",
        *(f"Offset = {_numbers(place.origin)}", f"ElementSpacing = {_numbers(place.spacing)}"),
        f"DimSize = {' '.join(map(str, voxels.shape[:3]))}",
        *([f"ElementNumberOfChannels = {voxels.shape[3]}"] if voxels.ndim > 3 else []),
        *(f"ElementType = {_META[voxels.dtype.name]}", f"ElementDataFile = {raw or 'LOCAL'}"),
    ]
    return "\n".join(lines) + "\n"


def _describe_nrrd(voxels: np.ndarray, place: Place, raw: str, packed: bool, big: bool, length: int) -> str:
    columns = np.asarray(place.directions) * np.asarray(place.spacing)[:, None]
    vectors = ["none"] * (voxels.ndim > 3) + [f"({','.join(repr(float(v)) for v in column)})" for column in columns]
    sizes = [*voxels.shape[3:], *voxels.shape[:3]]
    lines = [
        *("NRRD0004", f"type: {_NRRD.get(voxels.dtype.name, voxels.dtype.name)}", f"dimension: {len(sizes)}"),
        *("space: left-posterior-superior", f"sizes: {' '.join(map(str, sizes))}"),
        f"space directions: {' '.join(vectors)}",
        f"kinds: {' '.join(['vector'] * (voxels.ndim > 3) + ['domain'] * 3)}",
        *(f"endian: {'big' if big else 'little'}", f"encoding: {'gzip' if packed else 'raw'}"),
        f"space origin: ({','.join(repr(float(v)) for v in place.origin)})",
        *([f"data file: {raw}"] if raw else []),
    ]
    return "\n".join(lines) + "\n\n"


def _gzip(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    return packer.compress(data) + packer.flush()


def _read_meta(content: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, data = content.partition(b"ElementDataFile = LOCAL\n")
    fields = dict(line.split(" = ") for line in head.decode().splitlines())
    numbers = {
        name: tuple(map(float, fields[name].split())) for name in ("Offset", "ElementSpacing", "TransformMatrix")
    }
    matrix = tuple(numbers["TransformMatrix"][start : start + 3] for start in (0, 3, 6))
    place = Place(numbers["Offset"], numbers["ElementSpacing"], matrix)
    shape = tuple(map(int, fields["DimSize"].split()))
    assert fields["CompressedData"] == "True"
    return {"place": place, "shape": shape, "dtype": _OF_META[fields["ElementType"]]}, zlib.decompress(data)


def _read_nrrd(content: bytes) -> tuple[dict[str, Any], bytes]:
    head, _, data = content.partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:] if line[0] != "#")
    assert fields["space"] == "left-posterior-superior"
    assert fields["encoding"] == "gzip"
    columns = np.array([_vector(vector) for vector in fields["space directions"].split()])
    spacing = np.linalg.norm(columns, axis=1)
    place = Place(_vector(fields["space origin"]), tuple(spacing), tuple(map(tuple, columns / spacing[:, None])))
    dtype = {"unsigned char": "uint8", "unsigned short": "uint16"}[fields["type"]]
    shape = tuple(map(int, fields["sizes"].split()))
    return {"place": place, "shape": shape, "dtype": dtype}, zlib.decompress(data, wbits=zlib.MAX_WBITS | 16)


def _vector(text: str) -> tuple[float, ...]:
    return tuple(float(value) for value in text.strip("()").split(","))
