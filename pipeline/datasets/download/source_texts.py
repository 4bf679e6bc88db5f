"""Describe sources and downloads to the user: the list, instructions, results and the next commands."""

import shlex
from pathlib import Path

from pipeline.atomic import format_bytes
from pipeline.datasets.download.record import DownloadRecord, record_path
from pipeline.datasets.download.sources import SOURCES, Source


def list_sources() -> list[str]:
    """Return three lines per source: title, size and licence, page."""
    lines = []
    for source in SOURCES.values():
        size = format_bytes(source.size) if source.size else "size not known"
        access = size if source.archives else "needs a login; prints instructions"
        lines += [f"{source.name}: {source.title}", f"  {access}; {source.licence}", f"  {source.page}"]
    return lines


def explain_source(source: Source, out: Path) -> list[str]:
    """Return the steps to download by hand a source that needs a login."""
    root = out / source.root
    steps = [step.format(out=out, root=root, page=source.page) for step in source.instructions]
    return [
        f"{source.name} needs a login, so it has to be downloaded by hand:",
        *(f"{number}. {step}" for number, step in enumerate(steps, start=1)),
        f"licence: {source.licence}",
        *_next_commands(source, root),
    ]


def describe_download(source: Source, out: Path, record: DownloadRecord, is_new: bool) -> list[str]:
    """Return the contents of a complete folder, its licence and the next commands."""
    if is_new:
        head = [f"{out}: {record.files} files"]
        for archive in record.archives:
            size = format_bytes(archive.size)
            head += [f"  {archive.file}, {size}: {archive.checksum}", f"    sha256 {archive.sha256}"]
        head += [f"record: {record_path(out)} (copied beside another folder, this command accepts the same bytes only)"]
    else:
        head = [f"{out}: complete since {record.finished}, nothing to do"]
    return [*head, f"licence: {source.licence}; cite as {source.page} asks", *_next_commands(source, out / source.root)]


def _next_commands(source: Source, root: Path) -> list[str]:
    known, folder = Path("data_manifests") / f"{source.name}.json", shlex.quote(str(root))
    if known.is_file():
        return [f"next: python -m pipeline dataset check {known} --dataset_dir {folder}"]
    manifest = f"{source.name}.json"
    return [
        f"next: python -m pipeline dataset build {source.layout} {folder} -o {manifest}",
        f"then: python -m pipeline dataset check {manifest} --dataset_dir {folder} --deep",
    ]
