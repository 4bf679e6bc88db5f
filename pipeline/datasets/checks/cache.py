"""Cache of sha256 and probes of a dataset's files, so that training need not read unchanged files again.

An entry is valid while size, both times and inode of its file stay the same. Restoring the modification time does not
hide a change, because the status time cannot be set. Bit rot changes none of them: only reading the bytes finds it, as
``pipeline dataset check`` does, which renews the entries.

The cache holds facts, not findings. All checks run again on the facts, so one cache serves every manifest. Files with
an error are not stored.
"""

import base64
import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.atomic import write_atomically
from pipeline.datasets.files import State
from pipeline.datasets.probes import Content, Probe, choose_limit

_VERSION = f"{__version__}/3"
# A file that changed so shortly before it was read may change again with the same times.
_FRESH_NS = 2_000_000_000


@dataclass(frozen=True)
class Entry:
    """The facts of a file."""

    digest: str  #: its sha256
    probe: Probe | None  #: facts from its header or its pixels; None for files that are not images


class FileCache:
    """Entries by path relative to the dataset's folder, in one file per dataset in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    A cache that cannot be read or written never raises; it is treated as empty.
    """

    def __init__(self, root: Path) -> None:
        self._path = find_cache_file(root)
        self._files: dict[str, Any] = _read_entries(self._path) if self._path else {}
        self._changed: dict[str, Any] = {}

    def find(self, file: str, state: State, *, is_mask: bool, decoded: bool, max_pixels: int | None) -> Entry | None:
        """Return the entry of a file if its state is unchanged and the needed facts are known.

        A file read as a mask has other facts; ``decoded`` needs those from pixels.
        """
        stored = self._files.get(file)
        try:
            if stored is None or tuple(stored["state"]) != state or stored["is_mask"] != is_mask:
                return None
            probe = _load_probe(stored["probe"])
            digest = str(stored["sha256"])
        except (KeyError, TypeError, ValueError, AttributeError):
            # Written by another program, or damaged.
            return None
        if probe is not None:
            limit = choose_limit(probe.format, max_pixels)
            if prod(probe.shape) > limit or (decoded and probe.content is None):
                return None
        return Entry(digest, probe if probe is None or decoded else replace(probe, content=None))

    def store(self, file: str, state: State, entry: Entry, *, is_mask: bool) -> None:
        """Store the facts of a file, unless it has just been written."""
        now = time.time_ns()
        if any(0 <= now - moment < _FRESH_NS for moment in state[1:3]):
            self.drop(file)
            return
        old = self._files.get(file)
        known = isinstance(old, dict) and old.get("state") == list(state) and old.get("sha256") == entry.digest
        if known and (entry.probe is None or entry.probe.content is None):
            # Facts from pixels are not replaced by those of a header.
            return
        facts = {
            "state": state,
            "sha256": entry.digest,
            "is_mask": is_mask,
            "probe": entry.probe and asdict(entry.probe),
        }
        # As a later run will read it: tuples are lists in JSON. The only bytes are a thumbnail.
        stored = json.loads(json.dumps(facts, default=lambda thumbnail: base64.b64encode(thumbnail).decode()))
        if stored != old:
            self._files[file] = self._changed[file] = stored

    def drop(self, file: str) -> None:
        """Remove a file's entry."""
        if self._files.pop(file, None) is not None:
            self._changed[file] = None

    def save(self) -> None:
        """Write the new entries, and keep those that another run has written in the meantime."""
        if self._path is None or not self._changed:
            return
        files = {**_read_entries(self._path), **self._changed}
        content = {"version": _VERSION, "files": {name: entry for name, entry in files.items() if entry is not None}}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with write_atomically(self._path) as stream:
                json.dump(content, stream, separators=(",", ":"))
            self._changed = {}


def find_cache_file(root: Path) -> Path | None:
    """Return the path of a dataset's cache; None without a home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~/.cache"))
    if not folder.is_absolute():
        return None
    real = os.path.realpath(root)
    name = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
    return folder / "segmentation-pipeline" / "checks" / f"{name}.json"


def _read_entries(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        return {}
    files = content.get("files")
    return files if isinstance(files, dict) else {}


def _load_probe(values: Mapping[str, Any] | None) -> Probe | None:
    if values is None:
        return None
    content = None if values["content"] is None else _load_content(values["content"])
    places = {"shape": tuple(values["shape"]), "spacing": tuple(values["spacing"])}
    affine = tuple(tuple(row) for row in values["affine"])
    return Probe(**{**values, **places, "affine": affine, "content": content})


def _load_content(values: Mapping[str, Any]) -> Content:
    from pipeline.datasets.probes.fingerprints import Fingerprint

    stored = values["fingerprint"]
    fingerprint = stored and Fingerprint(base64.b64decode(stored["thumbnail"]), stored["informative"])
    counts = {float(value): int(number) for value, number in values["counts"].items()}
    first = tuple(values["first_non_finite"])
    return Content(**{**values, "counts": counts, "first_non_finite": first, "fingerprint": fingerprint})
