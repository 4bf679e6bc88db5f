"""What has arrived of a file so far, on disk, so that another process can go on."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.atomic import write_atomically


@dataclass(frozen=True)
class Origin:
    """Where the bytes of a part come from.

    Args:
        url: the address that was asked, before redirects.
        validator: what the server called this version of the file; empty if nothing.
        size: bytes of the whole file; None if unknown.
    """

    url: str
    validator: str
    size: int | None


class PartialFile:
    """``NAME.part`` beside the final name, and ``NAME.part.json`` that says where its bytes come from.

    Bytes are appended without a buffer, so a killed process leaves whole what it had received.

    Args:
        target: final name.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._note = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def origin(self) -> Origin | None:
        """Where they come from, or None if that is not known."""
        try:
            found = json.loads(self._note.read_text(encoding="utf-8"))
            return Origin(str(found["url"]), str(found["validator"]), found["size"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def find_resume_point(self, url: str, *, checksum_known: bool) -> tuple[int, str]:
        """Return the offset to ask for, and the validator to send with it.

        Bytes of another address, or of a server that names no version, are kept only if a checksum will show whether
        the whole fits together.
        """
        size, origin = self.size, self.origin
        if not size:
            return 0, ""
        if origin is not None and origin.url == url and origin.validator:
            return size, origin.validator
        return (size, "") if checksum_known else (0, "")

    def begin(self, origin: Origin) -> None:
        """Start from nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # First the bytes, then the note: killed in between, an old note beside an empty part is harmless.
        with open(self.path, "wb"):
            pass
        self.note(origin)

    def note(self, origin: Origin) -> None:
        """Write down where the bytes come from."""
        with write_atomically(self._note) as stream:
            json.dump(asdict(origin), stream)

    def discard(self) -> None:
        """Remove what has arrived."""
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Give the file its final name, after its bytes have reached the disk."""
        with open(self.path, "rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(self.path, self.target)
        with contextlib.suppress(OSError):
            self._note.unlink()
