"""Give a packed bundle away: audited and verified first, and under a place that never means other bytes."""

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from pipeline.atomic import is_disk_full, write_atomically
from pipeline.bundle.audit import AuditResult, audit_bundle
from pipeline.bundle.audit.bundle_source import Reader, find_top, open_source
from pipeline.bundle.config_files import METADATA
from pipeline.bundle.packing.verifying import Verification, verify_bundle
from pipeline.bundle.sharing import hugging_face
from pipeline.bundle.sharing.place import FolderPlace, HubPlace, Place, WebPlace
from pipeline.bundle.sharing.repository_card import DATA_LICENCE, PAGE, may_replace, write_card
from pipeline.datasets.download.transfer import full_disk_error
from pipeline.datasets.manifests.strict_json import parse_json
from pipeline.issues import InputError


@dataclass(frozen=True)
class Pushed:
    """A bundle that was given away."""

    place: str  #: for the receiver, with the digest; it never means other bytes
    digest: str  #: SHA-256 of the zip file
    bundle: str  #: its name
    notes: list[str]  #: what the sender should know


def push_bundle(archive: Path, place: Place, digest: str = "", *, create: bool = False, public: bool = False) -> Pushed:
    """Audit and verify a packed bundle, and put it where a receiver gets it.

    Args:
        archive: what `pipeline.bundle.packing.assembly.pack_bundle` wrote.
        place: a folder, a file in it, or a repository of a hub.
        digest: SHA-256 that the archive must have; "" if none was told.
        create: make a hub's repository if there is none, visible to members of its owner only.
        public: make it visible to everyone.

    Raises:
        InputError: the bundle is not clean, or the place does not take it; one line.
    """
    _refuse_unpacked(archive)
    if isinstance(place, WebPlace):
        raise InputError(_explain_web(archive, place))
    found = _digest(archive)
    if digest not in ("", found):
        raise InputError(f"{archive}: sha256 is {found}, not {digest}, as {place} says; leave #sha256= out")
    _refuse_findings(archive)
    if isinstance(place, FolderPlace):
        if create or public:
            raise InputError(f"--create and --public are for hf://; {place} is a folder")
        return _push_to_folder(archive, place, found)
    return _push_to_hub(archive, place, found, create=create, public=public)


def _refuse_unpacked(archive: Path) -> None:
    if archive.is_dir():
        name = archive.resolve().name
        command = f"python -m pipeline bundle pack {shlex.quote(str(archive))} -o {shlex.quote(f'{name}.zip')}"
        raise InputError(f"{archive} is a folder; pack it first: {command}")
    if not archive.is_file():
        hint = "expected a zip file; make it: python -m pipeline bundle pack BUNDLE -o FILE.zip"
        raise InputError(f"there is no file {archive}; {hint}")


def _explain_web(archive: Path, place: WebPlace) -> str:
    return (
        f"{place}: there is no standard way to push over https; upload {archive.name} by your server's own means and"
        f" tell the receiver {place}#sha256={_digest(archive)}, or push to hf://OWNER/REPOSITORY or a folder"
    )


def _refuse_findings(archive: Path) -> None:
    """Refuse a bundle in which the audit or the comparison with its digests finds an error."""
    looks: tuple[tuple[str, Callable[[Path], AuditResult | Verification]], ...]
    looks = (("audit", audit_bundle), ("verify", verify_bundle))
    for command, look in looks:
        found = look(archive).errors
        if found:
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            hint = f"see all: python -m pipeline bundle {command} {shlex.quote(str(archive))}"
            raise InputError(f"{archive} is not pushed: {found[0].one_line().removeprefix('error ')}{more}; {hint}")


def _digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _push_to_folder(archive: Path, place: FolderPlace, digest: str) -> Pushed:
    target = place.path
    if target.is_dir():
        target = target / archive.name
    elif target.suffix.lower() != ".zip":
        raise InputError(f"there is no folder {target}; make it, or name a file: {target}.zip")
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {target.parent}; make it, or mount the share, then push again")
    if not _is_there(target, digest):
        try:
            with open(archive, "rb") as source, write_atomically(target, "wb") as stream:
                _copy(source, stream, digest, archive)
                _is_there(target, digest)  # another push may have been faster
        except OSError as error:
            if is_disk_full(error):
                raise full_disk_error(target.parent, archive.stat().st_size) from None
            raise
    return Pushed(f"{target.resolve().as_uri()}#sha256={digest}", digest, _name_bundle(archive), [])


def _copy(source: IO[bytes], target: IO[bytes], digest: str, archive: Path) -> None:
    found = hashlib.sha256()
    for block in iter(lambda: source.read(1 << 20), b""):
        found.update(block)
        target.write(block)
    if found.hexdigest() != digest:
        raise InputError(f"{archive} changed while it was copied; push it again")


def _is_there(target: Path, digest: str) -> bool:
    """Return whether a file is there already.

    Raises:
        InputError: it has other bytes; somebody may have its place.
    """
    if not target.exists():
        return False
    if _digest(target) != digest:
        raise InputError(
            f"{target} exists with other bytes, and receivers may have its digest; name a new file, such as"
            f" {target.stem}_2.zip, or delete the old one"
        )
    return True


def _name_bundle(archive: Path) -> str:
    """Return the name of the folder in the archive, or the archive's own."""
    import zipfile

    with zipfile.ZipFile(archive) as opened:
        top = find_top([name for name in opened.namelist() if not name.endswith("/")])
    return top.rstrip("/") or archive.stem


def _push_to_hub(archive: Path, place: HubPlace, digest: str, *, create: bool, public: bool) -> Pushed:
    if place.revision:
        raise InputError(f"{place}: a push makes the revision; leave @{place.revision} out")
    place = place if place.file else replace(place, file=archive.name)
    if not place.file.lower().endswith(".zip"):
        raise InputError(f"{archive} has no name that ends with .zip; name the file: {place}.zip")
    name, reader = _name_bundle(archive), Reader(open_source(archive))
    before = hugging_face.prepare_repository(place, create=create, public=public)
    files: dict[str, Path | bytes] = {place.file: archive}
    notes = [f"visible to {'members of ' + place.repository.split('/')[0] if before.private else 'everyone'}"]
    card = reader.read("docs/README.md")
    if not may_replace(before.card, name):
        notes.append(f"{PAGE} of the repository stays as it is: no push of {name} wrote it, or it was edited since")
    elif card is not None:
        licence = (reader.read("LICENSE") or b"").decode("utf-8", "replace")
        files[PAGE] = write_card(name, card.decode("utf-8", "replace"), licence, place, digest).encode()
        data_licence = reader.read(f"docs/{DATA_LICENCE}")
        files.update({DATA_LICENCE: data_licence} if data_licence else {})
    message = f"{name} {_read_version(reader)}".strip()
    commit = hugging_face.upload(place, files, digest, message, before.commit)
    return Pushed(f"{replace(place, revision=commit)}#sha256={digest}", digest, name, notes)


def _read_version(reader: Reader) -> str:
    data, _ = parse_json(reader.read(f"configs/{METADATA}") or b"{}")
    return str(data.get("version", "")) if isinstance(data, dict) else ""
