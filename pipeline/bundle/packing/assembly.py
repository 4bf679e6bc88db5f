"""Pack a bundle into one zip file with all that a receiver needs, and nothing else."""

import hashlib
import io
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pipeline
from pipeline.atomic import write_atomically
from pipeline.bundle.audit import audit_bundle
from pipeline.bundle.audit.finding import Finding
from pipeline.bundle.audit.inventory import SUMS
from pipeline.bundle.check.bundle_check import check_bundle
from pipeline.bundle.config_files import DOWNLOADS, INFERENCE, METADATA, read_config, read_downloads
from pipeline.bundle.packing.bill_of_materials import MATERIALS, require_writer, write_materials
from pipeline.bundle.packing.package_wheel import DISTRIBUTION, build_wheel, find_distribution
from pipeline.bundle.packing.provenance import DATA_LICENCE, PROVENANCE, describe_origin
from pipeline.bundle.packing.reference_case import FOLDER, find_obstacle, write_reference
from pipeline.bundle.packing.reproducible_zip import write_zip
from pipeline.bundle.packing.requirements import format_pins, list_packages, read_field
from pipeline.bundle.packing.signature import SIGNATURE, require_signing, sign_folder
from pipeline.bundle.packing.travelling_files import (
    WEIGHTS,
    add_safe_weights,
    collect_files,
    list_left_out,
    write_folder,
)
from pipeline.bundle.render import render
from pipeline.issues import InputError, summarise

README, PINS = "README.txt", "requirements.txt"


@dataclass(frozen=True)
class Packed:
    """A packed bundle."""

    archive: Path  #: the zip file
    files: int  #: number of files in it
    size: int  #: bytes of the zip file
    digest: str  #: SHA-256 of the zip file
    obstacle: str  #: why there is no reference case; "" if there is one
    left_out: list[str]  #: files and folders of the bundle that stayed at home


class _Files:
    """Files in memory as the source of an audit."""

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self.name = name
        self.files = files
        self.sizes = {path: len(content) for path, content in files.items()}
        self.problems: list[Finding] = []

    def open(self, path: str) -> IO[bytes]:
        return io.BytesIO(self.files[path])


def pack_bundle(bundle: Path, archive: Path, *, manifest: Path | None = None, key: Path | None = None) -> Packed:
    """Write a bundle as a zip file; the same bundle gives the same bytes.

    Only the signature differs from one time to the next.

    Args:
        bundle: its folder.
        archive: the zip file, which is written completely or not at all.
        manifest: travels with the bundle.
        key: private key that signs it.

    Raises:
        InputError: `check_bundle` or `audit_bundle` finds an error, or a part cannot be made; one line.
    """
    require_writer()
    if key is not None:
        require_signing()
    issues = [issue for issue in check_bundle(bundle, audit=False) if issue.severity == "error"]
    if issues:
        raise InputError(f"{bundle}: {summarise(issues)}; see them all: python -m pipeline bundle check {bundle}")
    name = bundle.resolve().name
    files = collect_files(bundle, manifest)
    left_out = list_left_out(bundle, files)
    add_safe_weights(files)
    with tempfile.TemporaryDirectory() as place:
        stage = Path(place) / name
        obstacle = _add_reference(bundle, files, stage)
        _add_papers(bundle, files, obstacle)
        _refuse_findings(name, files)
        if key is not None:
            write_folder(files, stage)
            files[SIGNATURE] = sign_folder(stage, key)
    buffer = io.BytesIO()
    write_zip(buffer, {f"{name}/{path}": content for path, content in files.items()})
    with write_atomically(archive, "wb") as stream:
        stream.write(buffer.getbuffer())
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    return Packed(archive, len(files), len(buffer.getbuffer()), digest, obstacle, left_out)


def _refuse_findings(name: str, files: Mapping[str, bytes]) -> None:
    errors = audit_bundle(_Files(name, files)).errors
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(f"{name} is not packed: {errors[0].one_line().removeprefix('error ')}{more}")


def _add_reference(bundle: Path, files: dict[str, bytes], stage: Path) -> str:
    """Compute the reference case as a receiver will, from the files that travel; return why it cannot be."""
    write_folder(files, stage)
    weights = bundle / WEIGHTS
    absent = WEIGHTS not in files
    if absent and weights.is_file():  # to be downloaded by the receiver
        (stage / WEIGHTS).parent.mkdir(exist_ok=True)
        (stage / WEIGHTS).write_bytes(weights.read_bytes())
    obstacle = find_obstacle(stage)
    if not obstacle:
        _refuse_findings(stage.name, files)  # before the config runs
        write_reference(stage)
        made = [path for path in sorted((stage / FOLDER).rglob("*")) if path.is_file()]
        files.update({path.relative_to(stage).as_posix(): path.read_bytes() for path in made})
    if absent:
        (stage / WEIGHTS).unlink(missing_ok=True)
    return obstacle


def _add_papers(bundle: Path, files: dict[str, bytes], obstacle: str) -> None:
    """Add the wheel, and the texts about all files; their digests last."""
    metadata, packages = read_config(bundle, METADATA), list_packages()
    name, wheel = build_wheel()
    files[f"wheels/{name}"] = wheel
    files[PINS] = format_pins(packages).encode()
    origin = describe_origin(bundle, files, packages, obstacle)
    files[PROVENANCE] = (json.dumps(origin, indent=1, ensure_ascii=False) + "\n").encode()
    files[MATERIALS] = write_materials(bundle.resolve().name, str(metadata.get("version", "")), files, packages)
    values = {
        "title": str(metadata.get("name", bundle.resolve().name)),
        "task": metadata.get("task", ""),
        "intended_use": metadata.get("intended_use", ""),
        "distribution": DISTRIBUTION,
        "version": pipeline.__version__,
        "python": read_field(find_distribution().metadata, "Requires-Python").lstrip(">="),
        "wheel": f"wheels/{name}",
        "weights": WEIGHTS in files,
        "reference": not obstacle,
        "exact": not obstacle and "amp" in read_config(bundle, INFERENCE),
        "obstacle": obstacle,
        "downloads": read_downloads(files.get(DOWNLOADS, b"")),
        "data_licence": DATA_LICENCE,
    }
    files[README] = (render("receive.txt", values) + "\n").encode()
    sums = (f"{hashlib.sha256(content).hexdigest()}  {path}\n" for path, content in sorted(files.items()))
    files[SUMS] = "".join(sums).encode()
