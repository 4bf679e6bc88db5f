"""What the configs of a new bundle build, built once before they are written: a bundle that cannot train is refused."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.bundle.config_files import INFERENCE, TRAIN
from pipeline.bundle.draft import Draft
from pipeline.issues import InputError

_BUILT = {
    TRAIN: (
        "train#deterministic_transforms",
        "train#random_transforms",
        "validate#final_transforms",
        "validate#postprocessing",
        "validate#key_metric",
        "validate#additional_metrics",
    ),
    INFERENCE: ("preprocessing", "postprocessing", "inferer"),
}


def rehearse_training(draft: Draft) -> int:
    """Build transforms, metrics, network and loss, and compute one loss on a random image.

    Args:
        draft: with its configs edited.

    Returns:
        The number of the network's parameters.

    Raises:
        InputError: something cannot be built, the network does not give the channels that it should, or its loss is no
            number; one line with the place and the cause.
    """
    from monai.bundle import ConfigParser

    parsers = {}
    for file, places in _BUILT.items():
        # The manifest may not lie yet where it will.
        paths = {"bundle_root": str(draft.folder), "manifest": str(draft.dataset.path)}
        config = copy.deepcopy(draft.configs.files[file])
        # Steps that are off must be right as well.
        switches = {name: False for name in config if name.startswith("skip_")}
        parsers[file] = parser = ConfigParser({**config, **switches, **paths})
        for place in places:
            if place in parser:
                with _explain(draft, f"{place} in {file}"):
                    parser.get_parsed_content(place)
    return _compute_loss(draft, parsers[TRAIN])


def _compute_loss(draft: Draft, parser: Any) -> int:
    import torch

    shape = next(iter(draft.metadata["network_data_format"]["inputs"].values()))["spatial_shape"]
    channels, classes = draft.network("in_channels"), draft.network("out_channels")
    with _explain(draft, f"network_def in {TRAIN}"):
        network = parser.get_parsed_content("network_def").eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            logits = network(torch.rand(1, channels, *shape, generator=generator))
        if logits.shape[1] != classes:
            raise ValueError(f"the network gives {logits.shape[1]} channels, expected {classes}")
    if not draft.dataset.kind.objects:
        with _explain(draft, f"loss in {TRAIN}"):
            label = torch.randint(max(classes, 2), (1, 1, *logits.shape[2:]), generator=generator).float()
            loss = parser.get_parsed_content("loss")(logits, label)
            if not bool(torch.isfinite(loss)):
                raise ValueError(f"the loss of a random image is {float(loss)}")
    return sum(parameter.numel() for parameter in network.parameters())


@contextmanager
def _explain(draft: Draft, place: str) -> Iterator[None]:
    """Turn the long trace of a config into one line with the cause."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InputError, Exception) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        message = f"{draft.source.name} cannot be made to fit: {place}: {cause}; nothing was written"
        raise InputError(message) from error
    finally:
        logging.disable(level)
