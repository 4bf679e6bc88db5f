"""The part of a file that has arrived, on disk, so that another process can resume the transfer."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.atomic import write_atomically


@dataclass(frozen=True)
class Origin:
    """The origin of a part's bytes.

    Args:
        url: the requested address, before redirects.
        validator: the server's name for this version of the file; empty if it has none.
        size: bytes of the whole file; None if unknown.
    """

    url: str
    validator: str
    size: int | None


class PartialFile:
    """``NAME.part`` next to the final name, and ``NAME.part.json`` with the origin of its bytes.

    Bytes are appended without a buffer, so a killed process leaves all that it had received.

    Args:
        target: final name.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def origin(self) -> Origin | None:
        """Origin of the bytes, or None if unknown."""
        try:
            found = json.loads(self._note.read_text(encoding="utf-8"))
            return Origin(str(found["url"]), str(found["validator"]), found["size"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def find_resume_point(self, url: str, *, checksum_known: bool) -> tuple[int, str]:
        """Return the offset to request, and the validator to send with it.

        Bytes from another address, or from a server that names no version, are kept only if a checksum will show
        whether the whole fits together.
        """
        size, origin = self.size, self.origin
        if size and origin is not None and origin.url == url and origin.validator:
            return size, origin.validator
        return (size, "") if checksum_known else (0, "")

    def begin(self, origin: Origin) -> None:
        """Start with no bytes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # First the bytes, then the note: after a kill in between, an old note beside an empty part is harmless.
        self.path.write_bytes(b"")
        self.note(origin)

    def note(self, origin: Origin) -> None:
        """Save the origin of the bytes."""
        with write_atomically(self._note) as stream:
            json.dump(asdict(origin), stream)

    def discard(self) -> None:
        """Remove the part."""
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its final name, after its bytes have reached the disk."""
        with open(self.path, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(self.path, self.target)
        self._note.unlink(missing_ok=True)
