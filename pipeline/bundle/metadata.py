"""The metadata of a new bundle: what is known of its data, nothing that was said of the source's."""

from __future__ import annotations

import copy
from typing import Any

from pipeline.bundle.draft import Draft
from pipeline.datasets.probes import expected_format

VERSION = "0.1.0"
# What the configs need to run, and terms: these do not depend on the data.
_KEPT = (
    *("schema", "monai_version", "pytorch_version", "numpy_version", "required_packages_version", "copyright"),
    "intended_use",
)
_UNTOLD = "not told by the files"


def make_metadata(draft: Draft, parameters: int | None) -> dict[str, Any]:
    """Return the metadata of a new bundle, in the order of the suite.

    Args:
        draft: with its configs edited.
        parameters: number of the network's parameters, None if it is not known.
    """
    manifest, source = draft.dataset.manifest, draft.metadata
    kept = {key: source[key] for key in _KEPT if key in source}
    labels = ", ".join(f"{number} is {name}" for number, name in enumerate(draft.dataset.labels))
    counts = {split: len(cases) for split, cases in draft.dataset.parts.items() if cases}
    return {
        "schema": kept.pop("schema"),
        "version": VERSION,
        "changelog": {VERSION: f"First version, made from {draft.source.name} {source.get('version', '')}".rstrip()},
        **{key: kept.pop(key) for key in list(kept) if key.endswith("version")},
        "name": draft.name.replace("_", " "),
        "task": f"{manifest.task.capitalize()} of {join_names(draft.dataset.labels[1:])}",
        "description": f"{name_network(draft)} that segments {join_names(draft.dataset.labels[1:])}; made for the"
        f" dataset {manifest.name} ({', '.join(f'{number} {split}' for split, number in counts.items())} cases).",
        "authors": "not stated",
        **kept,
        "data_source": manifest.source or _UNTOLD,
        "data_type": describe_files(draft),
        "image_classes": ", ".join(draft.dataset.channels),
        "label_classes": f"single channel, {labels}",
        "pred_classes": f"single channel, {labels}",
        "references": list(manifest.citations),
        **({} if parameters is None else {"network_parameters": parameters}),
        "network_data_format": _describe_tensors(draft),
    }


def name_network(draft: Draft) -> str:
    """Return the network in words.

    Example:
        A 2-D AttentionUnet
    """
    network = draft.train["network_def"]
    return f"A {network.get('spatial_dims', 2)}-D {str(network['_target_']).rpartition('.')[2]}"


def join_names(names: tuple[str, ...]) -> str:
    """Return names as an enumeration.

    Example:
        >>> join_names(("cyst", "nodule", "vessel"))
        'cyst, nodule and vessel'
    """
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def describe_files(draft: Draft) -> str:
    """Return what the image files are, as far as the manifest knows.

    Example:
        PNG pictures, uint8
    """
    cases = draft.dataset.manifest.cases
    formats = sorted({expected_format(file) for case in cases for file in case.image} - {""})
    types = sorted({str(case.facts["dtype"]) for case in cases if case.facts.get("dtype")})
    what = {"pictures": "pictures", "stacks": "slices", "volumes": "volumes"}.get(draft.dataset.kind.shape, "files")
    return ", ".join([f"{' and '.join(formats)} {what}", *([" and ".join(types)] if types else [])])


def _describe_tensors(draft: Draft) -> dict[str, Any]:
    """Return the shapes of the source with the channels of the new network."""
    tensors = copy.deepcopy(draft.metadata["network_data_format"])
    before, _ = draft.neighbours
    channels = [
        _place(name, offset) for offset in range(-before, draft.slices - before) for name in draft.dataset.channels
    ]
    for image in tensors["inputs"].values():
        image.pop("modality", None)
        image["num_channels"] = draft.network("in_channels")
        image["channel_def"] = {str(index): name for index, name in enumerate(channels)}
    for pred in tensors["outputs"].values():
        pred["num_channels"] = draft.network("out_channels")
        pred["channel_def"] = {str(label): name for label, name in enumerate(draft.dataset.labels)}
    return tensors


def _place(name: str, offset: int) -> str:
    """Return a channel's name with the slice that it is of.

    Example:
        >>> _place("FLAIR", -1), _place("FLAIR", 0)
        ('FLAIR, 1 slice before', 'FLAIR')
    """
    if offset == 0:
        return name
    count = abs(offset)
    return f"{name}, {count} slice{'s' if count > 1 else ''} {'before' if offset < 0 else 'behind'}"
