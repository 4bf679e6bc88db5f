"""The record of a download, ``NAME.download.json`` beside the dataset's folder: archives, addresses, checksums.

With this file beside its folder, the same command at a second lab accepts exactly the same archives.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.atomic import write_atomically
from pipeline.issues import InputError


@dataclass(frozen=True)
class ReceivedArchive:
    """An archive as it arrived."""

    file: str  #: name of the archive
    url: str  #: address it came from; empty if it was on the disk already
    size: int  #: bytes
    sha256: str  #: digest of all bytes
    checksum: str  #: how far that digest is confirmed, in words


@dataclass(frozen=True)
class DownloadRecord:
    """A finished download."""

    name: str  #: name of the source
    page: str  #: its page
    licence: str  #: its terms
    finished: str  #: time, ISO 8601 with offset
    files: int  #: number of files unpacked
    archives: tuple[ReceivedArchive, ...]


def record_path(out: Path) -> Path:
    """Return the path of a dataset's record: beside its folder, which holds nothing but the dataset."""
    return out.with_name(f"{out.name}.download.json")


def write_record(record: DownloadRecord, out: Path) -> Path:
    """Write the record of a dataset's folder and return its path."""
    path = record_path(out)
    with write_atomically(path) as stream:
        json.dump(asdict(record), stream, indent=1, ensure_ascii=False)
        stream.write("\n")
    return path


def read_record(out: Path) -> DownloadRecord | None:
    """Read the record of a dataset's folder; None if there is none.

    Raises:
        InputError: there is one that cannot be read.
    """
    path = record_path(out)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        archives = tuple(ReceivedArchive(**archive) for archive in found.pop("archives"))
        return DownloadRecord(**found, archives=archives)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"cannot read the record {path}: {error}; restore or remove the file") from None
