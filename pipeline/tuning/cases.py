"""The labelled cases of a split, with keys made of their ids and the digests of their files."""

import functools
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.datasets.digests import compute_sha256
from pipeline.datasets.manifests.manifest import make_subject_key, normalise_subject, split_fragment
from pipeline.issues import InputError
from pipeline.tuning.workflow import Workflow, explain

_DATALIST = "validate#dataset#data"
_FILES = ("image", "label")
_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class LabelledCase:
    """A case to tune on."""

    case_id: str  #: its id
    subject: str  #: its subject; if unknown, a separate one for this case
    is_grouped: bool  #: whether the subject is known
    key: str  #: identifies its files and their content; valid as a file name
    item: dict[str, Any]  #: its entry in the datalist


def load_cases(workflow: Workflow) -> list[LabelledCase]:
    """Load the cases that the bundle's evaluation would score.

    Raises:
        InputError: the dataset does not match the manifest, or a case has no label or no id.
    """
    with explain(f"{_DATALIST} of {workflow.bundle}"):
        items = workflow.parser.get_parsed_content(_DATALIST)
    unlabelled = [str(item.get("case_id", "?")) for item in items if "label" not in item]
    if unlabelled:
        raise InputError(
            f"{len(unlabelled)} of {len(items)} cases have no label, such as {unlabelled[0]}; "
            "post-processing is tuned on labelled cases only"
        )
    if not all("case_id" in item and "subject" in item for item in items):
        raise InputError(
            f"{_DATALIST} of {workflow.bundle} gives cases without case_id and subject; use load_datalist there"
        )
    # A datalist may repeat its cases (oversampling).
    found = {str(item["case_id"]): item for item in items}
    digest = functools.cache(_digest)  # cases may share an annotation file
    return [
        LabelledCase(
            name,
            make_subject_key(str(item["subject"]), name),
            bool(normalise_subject(str(item["subject"]))),
            _make_key(name, item, digest),
            dict(item),
        )
        for name, item in found.items()
    ]


def find_image_folder(cases: Sequence[LabelledCase]) -> Path:
    """Return a folder with images of the cases to predict, relative to the current one if it lies in it.

    Inference looks in a folder and in the folders in it. A folder of folders is taken only if it holds no folder of
    masks, which would be taken for images.
    """
    images, masks = (_list_folders(case.item[key] for case in cases) for key in _FILES)
    common = Path(os.path.commonpath(images))
    is_near = all(common in (folder, folder.parent) for folder in images)
    apart = [folder for folder in masks if folder not in images and folder.is_relative_to(common)]
    found = common if is_near and not apart else images[0]
    return Path(os.path.relpath(found)) if found.is_relative_to(Path.cwd()) else found


def _list_folders(entries: Iterable[str | Sequence[str]]) -> list[Path]:
    """Return the folders of files, sorted; a series of DICOM files is its folder."""
    paths = (
        Path(split_fragment(path)[0]) for entry in entries for path in ([entry] if isinstance(entry, str) else entry)
    )
    return sorted({path if path.is_dir() else path.parent for path in paths})


def _make_key(case_id: str, item: dict[str, Any], digest: Callable[[Path], str]) -> str:
    paths = {key: [value] if isinstance(value, str) else list(value) for key, value in item.items() if key in _FILES}
    digests = {key: [digest(Path(split_fragment(path)[0])) for path in files] for key, files in paths.items()}
    # With the paths, because post-processing loads the image again from there.
    text = json.dumps([case_id, paths, digests], sort_keys=True)
    return f"{_FILE_NAME.sub('_', case_id)[:60]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _digest(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's files in the order of their names."""
    if not path.is_dir():
        return compute_sha256(path)
    files = sorted(file for file in path.iterdir() if file.is_file())
    return hashlib.sha256("".join(f"{file.name}:{compute_sha256(file)}\n" for file in files).encode()).hexdigest()
