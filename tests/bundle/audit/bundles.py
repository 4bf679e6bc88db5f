"""Small bundles as tables of files, written as a folder or a zip file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from pipeline.bundle.audit import AuditResult

Files = dict[str, bytes]
METADATA: dict[str, Any] = {
    "version": "1.0.0",
    "changelog": {"1.0.0": "First version"},
    "monai_version": "1.6.1",
    "pytorch_version": "2.13.0",
    "numpy_version": "2.4.6",
    "name": "spleen",
    "task": "Segmentation of the spleen in CT",
    "description": "A small network",
    "authors": "A. Lab",
    "copyright": "Copyright 2026 A. Lab",
    "data_source": "http://medicaldecathlon.com",
    "intended_use": "Research only",
    "network_data_format": {
        "inputs": {"image": {"type": "image", "num_channels": 1, "spatial_shape": ["16*2**p", "*", 96]}},
        "outputs": {"pred": {"type": "image", "num_channels": 2, "channel_def": {"0": "background", "1": "spleen"}}},
    },
}
CONFIG: dict[str, Any] = {
    "imports": ["$import torch"],
    "bundle_root": ".",
    "network_def": {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2},
    "network": "$@network_def.to(torch.device('cpu'))",
    "run": ["$@network.eval()"],
}
LOGGING = """[loggers]
keys=root
[handlers]
keys=console
[formatters]
keys=plain
[logger_root]
level=INFO
handlers=console
[handler_console]
class=StreamHandler
level=INFO
formatter=plain
args=(sys.stdout,)
[formatter_plain]
format=%(message)s
"""


def encode(data: Any) -> bytes:
    return json.dumps(data, indent=1).encode()


def make_files(config: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None, **files: bytes) -> Files:
    """Return a harmless bundle with changes.

    Args:
        config: added to train.json.
        metadata: added to metadata.json.
        files: more files, ``__`` standing for a slash.
    """
    return {
        "LICENSE": b"Apache-2.0\n",
        "docs/README.md": b"# Spleen\n",
        "configs/train.json": encode({**CONFIG, **(config or {})}),
        "configs/metadata.json": encode({**METADATA, **(metadata or {})}),
        "configs/logging.conf": LOGGING.encode(),
        **files,
    }


def write_folder(files: Files, folder: Path) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def write_zip(files: Files, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path, content in files.items():
            opened.writestr(path, content)
    return archive


def list_codes(result: AuditResult) -> set[str]:
    return {finding.code for finding in result.findings if finding.level != "note"}
