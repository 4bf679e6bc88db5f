"""The metadata of a new bundle: facts about its data, its network and its authors."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.bundle.config_files import TRAIN
from pipeline.bundle.configs import Config, make_inert, read_target
from pipeline.bundle.draft import Draft
from pipeline.datasets.probes import expected_format

VERSION = "0.1.0"
NO_AUTHOR = "TODO: your name"
UNKNOWN = "not stated in the files"
_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
_INTENDED_USE = "Research only. Not a medical device: must not be used for diagnosis or treatment."


def make_metadata(draft: Draft, configs: dict[str, Config], parameters: int | None) -> dict[str, Any]:
    """Return the metadata of a new bundle.

    Args:
        draft: the bundle.
        configs: its configs by name.
        parameters: number of the network's parameters, None if it is not known.
    """
    manifest, recipe = draft.dataset.manifest, draft.recipe
    objects = join_names(draft.dataset.labels[1:])
    labels = ", ".join(f"{number} is {name}" for number, name in enumerate(draft.dataset.labels))
    counts = ", ".join(f"{len(cases)} {split}" for split, cases in draft.dataset.parts.items() if cases)
    packages = {name: _find_version(name, known) for name, known in recipe.required_packages.items()}
    data = {
        "schema": recipe.metadata.get("schema", _SCHEMA),
        "version": VERSION,
        "changelog": {VERSION: f"First version, made from {recipe.origin}"},
        "monai_version": _find_version("monai"),
        "pytorch_version": _find_version("torch"),
        "numpy_version": _find_version("numpy"),
        "required_packages_version": packages,
        "name": draft.name.replace("_", " "),
        "task": f"{manifest.task.capitalize()} of {objects}",
        "description": f"{name_network(configs)} that segments {objects}; made for the dataset {manifest.name}"
        f" ({counts} cases).",
        "authors": draft.authors or NO_AUTHOR,
        "copyright": f"Copyright {draft.authors or NO_AUTHOR}",
        "data_source": manifest.source or UNKNOWN,
        "data_type": describe_files(draft),
        "image_classes": ", ".join(draft.dataset.channels),
        "label_classes": f"single channel, {labels}",
        "pred_classes": f"single channel, {labels}",
        "intended_use": recipe.metadata.get("intended_use", _INTENDED_USE),
        "references": list(manifest.citations),
        **({} if parameters is None else {"network_parameters": parameters}),
        "network_data_format": _describe_tensors(draft, configs[TRAIN]),
    }
    inert: dict[str, Any] = make_inert(data)
    return inert


def _find_version(package: str, known: str | None = None) -> str:
    """Return the version of a package on this machine, without a build's suffix; the known one if it is not there."""
    try:
        return re.split(r"[+]", version(package))[0]
    except PackageNotFoundError:
        return known or UNKNOWN


def name_network(configs: dict[str, Config]) -> str:
    """Return the network in words, such as "A 2-D AttentionUnet"."""
    network = configs[TRAIN]["network_def"]
    return f"A {network.get('spatial_dims', 2)}-D {read_target(network)}"


def join_names(names: tuple[str, ...]) -> str:
    """Return names as an enumeration.

    Example:
        >>> join_names(("cyst", "nodule", "vessel"))
        'cyst, nodule and vessel'
    """
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def describe_files(draft: Draft) -> str:
    """Return the kind of the image files, as far as the manifest knows, such as "PNG pictures, uint8"."""
    cases = draft.dataset.manifest.cases
    formats = sorted({expected_format(file) for case in cases for file in case.image} - {""})
    types = sorted({str(case.facts["dtype"]) for case in cases if case.facts.get("dtype")})
    what = {"pictures": "pictures", "stacks": "slices", "volumes": "volumes"}.get(draft.dataset.kind.shape, "files")
    return ", ".join([f"{' and '.join(formats)} {what}", *([" and ".join(types)] if types else [])])


def find_input_shape(draft: Draft, train: Config) -> list[int]:
    """Return the spatial shape of a network's input in training: a crop, a tile, or a whole slice."""
    shape: list[int] = next(train[name] for name in ("image_size", "input_size", "roi_size") if name in train)
    # Slices go through the network one by one.
    return shape[:2] if draft.template == "stacks" else shape


def _describe_tensors(draft: Draft, train: Config) -> dict[str, Any]:
    side = draft.slices // 2
    channels = [_place(name, offset) for offset in range(-side, side + 1) for name in draft.dataset.channels]
    shape = find_input_shape(draft, train)
    common = {"dtype": "float32", "is_patch_data": draft.template == "objects"}
    image = {
        "type": "image",
        "format": "magnitude",
        "num_channels": draft.inputs,
        "spatial_shape": shape,
        "value_range": draft.recipe.value_range,
        **common,
        "channel_def": {str(index): name for index, name in enumerate(channels)},
    }
    pred = {
        "type": "image",
        "format": "segmentation",
        "num_channels": draft.outputs,
        "spatial_shape": train.get("output_size", shape),
        "value_range": [0, 1],
        **common,
        "channel_def": {str(label): name for label, name in enumerate(draft.dataset.labels)},
    }
    return {"inputs": {"image": image}, "outputs": {"pred": pred}}


def _place(name: str, offset: int) -> str:
    """Return the name of a channel with the slice that it is from.

    Example:
        >>> _place("FLAIR", -1), _place("FLAIR", 0)
        ('FLAIR, slice before', 'FLAIR')
    """
    return name if offset == 0 else f"{name}, slice {'before' if offset < 0 else 'after'}"
