"""Build each part of a new bundle once before it is written, so that one that cannot train is refused."""

import copy
from contextlib import AbstractContextManager
from typing import Any

from pipeline.bundle.config_failures import explain_failure
from pipeline.bundle.config_files import INFERENCE, TRAIN
from pipeline.bundle.configs import Config
from pipeline.bundle.draft import Draft
from pipeline.bundle.render import REFINE
from pipeline.bundle.texts import find_input_shape

_BUILT = {
    TRAIN: (
        "train#deterministic_transforms",
        "train#random_transforms",
        "train#augmentation",
        "validate#final_transforms",
        "validate#postprocessing",
        "validate#key_metric",
        "validate#additional_metrics",
    ),
    INFERENCE: ("preprocessing", "postprocessing", "inferer"),
    REFINE: ("postprocessing",),
}


def rehearse_training(draft: Draft, configs: dict[str, Config]) -> int:
    """Build transforms, metrics, network and loss, and compute one loss on a random image.

    Args:
        draft: the bundle.
        configs: its configs by name.

    Returns:
        The number of the network's parameters.

    Raises:
        InputError: something cannot be built, the network has other output channels than expected, or its loss is not
            finite; one line with the place and the cause.
    """
    from monai.bundle import ConfigParser

    # The manifest is copied to its place only later.
    paths = {"bundle_root": str(draft.folder), "manifest": str(draft.dataset.path)}
    refine = {**configs[INFERENCE], **configs[REFINE]}
    # Steps that are off must be right as well.
    switches = {name: False for name in refine if name.startswith("skip_")}
    parsers = {}
    for file, config in {**configs, REFINE: {**refine, **switches}}.items():
        if file not in _BUILT:
            continue
        parsers[file] = parser = ConfigParser(copy.deepcopy({**config, **paths}))
        for place in _BUILT[file]:
            with _explain(draft, f"{place} in {file}"):
                parser.get_parsed_content(place)
    return _compute_loss(draft, configs[TRAIN], parsers[TRAIN])


def _compute_loss(draft: Draft, train: Config, parser: Any) -> int:
    import torch

    shape = find_input_shape(draft, train)
    with _explain(draft, f"network_def in {TRAIN}"):
        network = parser.get_parsed_content("network_def").eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            logits = network(torch.rand(1, draft.inputs, *shape, generator=generator))
        if logits.shape[1] != draft.outputs:
            raise ValueError(f"the network gives {logits.shape[1]} channels, expected {draft.outputs}")
    if not draft.dataset.kind.objects:
        with _explain(draft, f"loss in {TRAIN}"):
            label = torch.randint(len(draft.dataset.labels), (1, 1, *logits.shape[2:]), generator=generator).float()
            loss = parser.get_parsed_content("loss")(logits, label)
            if not bool(torch.isfinite(loss)):
                raise ValueError(f"the loss of a random image is {float(loss)}")
    return sum(parameter.numel() for parameter in network.parameters())


def _explain(draft: Draft, place: str) -> AbstractContextManager[None]:
    return explain_failure(f"{draft.recipe.title} cannot be made to fit: {place}", "nothing was written")
