"""Say where a packed bundle comes from: revision, versions, data, run, scores, licences."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pipeline
from pipeline.bundle.config_files import DOWNLOADS, METADATA, read_config, read_downloads, read_json
from pipeline.bundle.packing.package_wheel import DISTRIBUTION, find_distribution
from pipeline.bundle.packing.requirements import Package, read_field
from pipeline.bundle.packing.travelling_files import MANIFEST_PATH, RUN_RECORD, SAFE_WEIGHTS, WEIGHTS

PROVENANCE = "provenance.json"
DATA_LICENCE = "docs/data_license.txt"
# What travels of a run's record: no command and no folders, which name machines and people.
_OF_RUN = (
    *("status", "seed", "started", "ended", "duration_seconds", "epochs", "max_epochs", "best", "metrics"),
    *("versions", "device", "processes", "git"),
)
_SCORES = ("validation_score", "eval_metrics", "test_score")


def describe_origin(
    bundle: Path, files: Mapping[str, bytes], packages: Sequence[Package], obstacle: str
) -> dict[str, Any]:
    """Return where a packed bundle comes from.

    Args:
        bundle: its folder at home.
        files: that travel, by path.
        packages: that it needs.
        obstacle: why there is no reference case; "" if there is one.
    """
    metadata = read_config(bundle, METADATA)
    manifest = json.loads(files[MANIFEST_PATH]) if MANIFEST_PATH in files else {}
    return {
        "bundle": bundle.resolve().name,
        "version": metadata.get("version"),
        "packed_by": {"package": DISTRIBUTION, "version": pipeline.__version__, "git": _read_revision()},
        "versions": {"python": platform.python_version(), **{package.name: package.version for package in packages}},
        "manifest_sha256": _digest(files, MANIFEST_PATH),
        "weights_sha256": {path: _digest(files, path) for path in (WEIGHTS, SAFE_WEIGHTS) if path in files},
        "to_download": read_downloads(files.get(DOWNLOADS, b"")),
        "run": _read_run(bundle),
        "scores": {name: metadata[name] for name in _SCORES if name in metadata},
        "licences": {
            "bundle": _read_title(files.get("LICENSE", b"")),
            "data": f"see {DATA_LICENCE}" if DATA_LICENCE in files else None,
            "dataset": manifest.get("licence") if isinstance(manifest, dict) else None,
            "package": read_field(find_distribution().metadata, "License-Expression"),
        },
        "reference_case": f"none: {obstacle}" if obstacle else "see reference/reference.json",
    }


def _digest(files: Mapping[str, bytes], path: str) -> str | None:
    return hashlib.sha256(files[path]).hexdigest() if path in files else None


def _read_title(content: bytes) -> str | None:
    lines = (line.strip() for line in content.decode("utf-8", "replace").splitlines())
    return next((f"{line}, see LICENSE" for line in lines if line), None)


def _read_run(bundle: Path) -> dict[str, Any] | None:
    for folder in ("models", "docs"):
        path = bundle / folder / RUN_RECORD
        if path.is_file():
            record = read_json(path)
            manifest = record.get("manifest") or {}
            return {**{name: record[name] for name in _OF_RUN if name in record}, "manifest": manifest.get("sha256")}
    return None


def _read_revision() -> dict[str, Any] | None:
    """Return the git revision of this package; None if it was not imported from a checkout."""

    def run(*arguments: str) -> str:
        command = ["git", "-C", str(Path(pipeline.__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        run("ls-files", "--error-unmatch", "__init__.py")  # an environment may lie in another project's checkout
        return {"revision": run("rev-parse", "HEAD"), "dirty": bool(run("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None
