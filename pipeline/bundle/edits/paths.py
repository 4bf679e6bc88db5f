"""Paths of a new bundle: itself, its manifest, the data."""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.bundle.draft import Draft

MANIFESTS = "data_manifests"
# As long as an expression of a config may be and still be read at a glance.
_LONGEST = 80


def edit_paths(draft: Draft) -> None:
    """Set ``bundle_root``, ``manifest``, ``dataset_dir``, ``input`` and ``fold`` in every config that has them."""
    configs, dataset = draft.configs, draft.dataset
    old = str(draft.train.get("bundle_root"))
    root = f"{draft.folder.parent.name}/{draft.name}"
    configs.set_knob("bundle_root", root)
    # Commands in remarks name the source's folder too.
    configs.replace_texts(lambda text: re.sub(rf"(?<![\w/]){re.escape(old)}(?!\w)", root, text))
    folder = draft.relate(dataset.folder) if dataset.folder else f"data/{draft.name}"
    images = os.path.normpath(f"{folder}/{dataset.image_folder()}")
    for name, value in (
        ("manifest", express_manifest(draft)),
        ("dataset_dir", folder),
        ("input", Path(images).as_posix()),
        ("fold", dataset.fold),
    ):
        for data in configs.files.values():
            if name in data and not str(data[name]).startswith("@"):
                data[name] = value
    draft.tell(f"paths: bundle_root {root}, dataset_dir {folder}, manifest {locate_manifest(draft)}")


def locate_manifest(draft: Draft) -> Path:
    """Return where the bundle will look for its manifest.

    Where there is a folder ``data_manifests`` beside the folder of bundles, manifests belong there; one that lies
    elsewhere is copied. A manifest names files and subjects, so it is never put into the bundle, which may travel.
    """
    shelf = draft.root / MANIFESTS
    if shelf.is_dir() and not draft.dataset.path.is_relative_to(shelf):
        return shelf / f"{draft.name}.json"
    return draft.dataset.path


def express_manifest(draft: Draft) -> str:
    """Return the value of ``manifest``: below ``bundle_root``, so that it is found from every directory."""
    path = locate_manifest(draft)
    relative = Path(os.path.relpath(path, draft.folder)).as_posix()
    text = f"$@bundle_root + '/{relative}'"
    plain = path.is_relative_to(draft.root) and not any(mark in relative for mark in "'\\@%#{}") and relative.isascii()
    return text if plain and len(text) <= _LONGEST else str(path)
