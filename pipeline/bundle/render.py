"""The configs of a new bundle, rendered from the templates."""

import functools
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.bundle.config_files import EVALUATE, INFERENCE, TRAIN
from pipeline.bundle.configs import Config, find_references, list_texts, read_target
from pipeline.bundle.draft import Draft
from pipeline.bundle.fitting import count_repeats, fit_cache_rate, fit_sizes, needs_balanced_crops
from pipeline.issues import InputError

REFINE, TTA, ENSEMBLE = "refine.json", "tta.json", "ensemble.json"
CONFIGS = (
    *(TRAIN, EVALUATE, INFERENCE, REFINE, TTA, ENSEMBLE),
    *("losses.json", "phantom.json", "multi_gpu_train.json", "swanlab.json"),
)
# Overrides of one template only.
_MORE = {"objects": ("paper.json",)}
_FINDERS = {"volumes": "find_volumes", "stacks": "find_inputs"}
# Words that follow "dice_" in the names of other metrics.
_LONGEST_LABEL = 60
_TAKEN = ("image", "volume", "patient", "case", "pooled", "slice_nonempty")


def render_configs(draft: Draft) -> dict[str, Config]:
    """Return all configs of a new bundle but its metadata, by name.

    Raises:
        InputError: the data do not fit the recipe, or a part of it refers to a setting that its bundle does not have.
    """
    context = _gather(draft)
    names = (*CONFIGS, *_MORE.get(draft.template, ()))
    rendered = {name: json.loads(render(name, context)) for name in names}
    for name in (TRAIN, INFERENCE):
        rendered[name] = _adopt_knobs(draft, name, rendered[name])
    return rendered


def render(name: str, values: Config) -> str:
    """Return the text of a template, without the newline at its end."""
    text: str = _open_templates().get_template(f"{name}.j2").render(values)
    return text


@functools.cache
def _open_templates() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.bundle"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    environment.filters["target"] = read_target
    environment.filters["prefixed"] = lambda names, prefix: [prefix + text for text in names]
    return environment


def _gather(draft: Draft) -> dict[str, Any]:
    """Return the values of the templates."""
    recipe, dataset = draft.recipe, draft.dataset
    knobs = _fit_knobs(draft)
    network = {**recipe.network_def, "in_channels": draft.inputs, "out_channels": draft.outputs}
    values = None if dataset.kind.objects else dataset.grey_values()
    if values == ([0, 255] if draft.template == "stacks" else list(range(len(dataset.labels)))):
        values = None  # what the savers write by default
    repeat = name_repeat(draft)
    slices = knobs.pop("slices_per_case", 1)
    if repeat:
        knobs[repeat] = slices if dataset.kind.shape == "stacks" else count_repeats(draft)
    names_of_draft = ("template", "bundle_root", "dataset_dir", "output_dir", "input", "softmax", "outputs", "unit")
    names_of_recipe = ("network", "optimizer", "lr_scheduler", "loaders", "find_unused_parameters")
    return {
        **{name: getattr(draft, name) for name in names_of_draft},
        **{name: getattr(recipe, name) for name in names_of_recipe},
        "manifest": draft.express_manifest(),
        "fold": dataset.fold,
        "knobs": knobs,
        "network_def": network,
        "phantom": _fit_phantom(draft),
        "channels": len(dataset.channels),
        "classes": len(dataset.labels),
        "label_names": dict(enumerate(name_labels(dataset.labels), start=1)),
        "encoding": {} if dataset.kind.objects else dataset.encoding(),
        "drawn": dataset.drawn,
        "united": dataset.united,
        "single": dataset.kind.shape == "pictures",
        "eight_bit": dataset.is_eight_bit,
        "label_values": values,
        "values_option": {"values": "@label_values"} if values else {},
        "repeat": repeat,
        "cache_rate": fit_cache_rate(draft)[0],
        "finder": name_finder(draft),
        "exclude": find_excluded(draft),
        "balanced_crops": draft.template == "volumes"
        and needs_balanced_crops(dataset, knobs["roi_size"], knobs["spacing"]),
        "label_ids": list(range(1, len(dataset.labels))),
        "activation_name": "softmax" if draft.softmax else "sigmoid",
    }


def _fit_knobs(draft: Draft) -> Config:
    """Return the settings of the experiment, fitted to the data."""
    knobs = {**draft.recipe.knobs, **fit_sizes(draft)}
    if not draft.softmax:
        knobs["threshold"] = 0.5
    if draft.template in ("stacks", "volumes"):
        knobs["skip_largest_component"] = True
    if draft.template == "objects":
        knobs["min_size"] = 0
    if draft.template == "stacks":
        channels = len(draft.dataset.channels)
        knobs["figure_channels"] = [channels + index for index in range(3 if channels == 3 else 1)]
    return knobs


def _fit_phantom(draft: Draft) -> Config:
    """Return the small sizes of a trial; those of tiles never exceed the experiment's."""
    sizes = fit_sizes(draft) if draft.template == "objects" else {}
    phantom = dict(draft.recipe.phantom)
    for name, size in sizes.items():
        phantom[name] = min(phantom.get(name, size), size)
    dropped = ("max_epochs", "val_interval", "batch_size", "min_size")
    unit = re.compile(r"(slices_per|tiles_per)_\w+|repeats")
    return {name: value for name, value in phantom.items() if name not in dropped and not unit.fullmatch(name)}


def name_repeat(draft: Draft) -> str:
    """Return the setting that says how often a case is drawn in one epoch; "" if once is enough."""
    if draft.template == "stacks":
        return f"slices_per_{draft.unit}"
    if draft.template == "objects":
        return "tiles_per_image"
    return "repeats" if count_repeats(draft) > 1 else ""


def name_finder(draft: Draft) -> str:
    """Return the function of `pipeline.datasets` that finds the images of an inference."""
    if draft.dataset.kind.shape == "pictures":
        return "find_images"
    return _FINDERS[draft.template]


def find_excluded(draft: Draft) -> list[str] | None:
    """Return patterns of masks that lie among the images, after the usual ones; [] if the usual ones do.

    Returns:
        The patterns; None if masks lie among the images and their names do not say so.
    """
    from pipeline import datasets

    finder = getattr(datasets, name_finder(draft))
    usual = list(inspect.signature(finder).parameters["exclude"].default)
    found = draft.dataset.masks_among_images(tuple(usual))
    return found and [*usual, *found]


def name_labels(labels: Iterable[str]) -> list[str]:
    """Return the labels' names as parts of metrics' names, all different; the background is left out.

    Args:
        labels: names, background first.

    Example:
        >>> name_labels(("background", "Cyst (left)", "cyst left?", "???", "pooled"))
        ['cyst_left', 'cyst_left_2', 'label', 'pooled_4']
    """
    names: list[str] = []
    for number, label in enumerate(list(labels)[1:], start=1):
        # Metrics name files, and file systems refuse long names.
        name = re.sub(r"\W+", "_", label.casefold(), flags=re.ASCII)[:_LONGEST_LABEL].strip("_") or "label"
        names.append(f"{name}_{number}" if name in (*names, *_TAKEN) else name)
    return names


def _adopt_knobs(draft: Draft, name: str, config: Config) -> Config:
    """Add the settings that parts of the source refer to and that the template does not have."""
    source = draft.recipe.configs.get(name, {})
    added: Config = {}
    while lost := list(_find_lost({**config, **added})):
        for where, reference in lost:
            root = reference.split("#")[0]
            if root not in source or root in config:
                raise InputError(
                    f"{draft.recipe.title} cannot be made to fit: {where} in {name} refers to {reference}, which a"
                    f" bundle from the template {draft.template} does not have; nothing was written"
                )
            added[root] = source[root]
    names = list(config)
    place = names.index("device") if name == TRAIN else names.index("network_def")
    return {**{key: config[key] for key in names[:place]}, **added, **{key: config[key] for key in names[place:]}}


def _find_lost(config: Config) -> Iterator[tuple[str, str]]:
    """Yield id and reference of what leads nowhere."""
    from monai.bundle import ConfigParser

    parser = ConfigParser(config)
    for where, text in list_texts(config):
        yield from ((where, name) for name in sorted(find_references(text)) if name not in parser)
