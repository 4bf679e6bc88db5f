"""Load weights for evaluation and inference, with a one-line error if they do not fit."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from pipeline.handlers.logs.empty_predictions import EmptyPredictions
from pipeline.handlers.run.batch_cases import list_items
from pipeline.handlers.run.exits import OneLineHandler
from pipeline.issues import InputError
from pipeline.parallel.agreement import exit_together
from pipeline.parallel.wrapped import unwrap_network
from pipeline.runs.seen_cases import find_seen_cases
from pipeline.weights import list_checkpoints, load_weights

_LOGGER = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class NetworkCheckpointLoader(OneLineHandler):
    """Load a network's weights when the engine starts: a raw state dict, or one entry of a *last* checkpoint.

    MONAI's ``CheckpointLoader`` does the same, but answers a missing or unrelated file with a long traceback. MONAI's
    federated client switches off handlers whose name ends in ``CheckpointLoader``, so this name does, too.

    A warning says how many of the cases the weights were trained on, where that is known, see `find_seen_cases`.
    If the network with these weights finds nothing in any case, the log says so at the end, see `EmptyPredictions`.

    Raises:
        InputError: when the run starts: the file is missing, is not a checkpoint of plain tensors, or its keys or
            shapes differ from the network's.
    """

    #: ``model.pt`` or ``last_epoch=N.pt``; of several (an ensemble) the first
    load_path: str | Path | Sequence[str | Path]
    network: torch.nn.Module  #: network that gets the weights; every key must fit
    network_key: str = "network"  #: entry of the network in a *last* checkpoint

    def attach(self, engine: Engine) -> None:
        """Load when ``engine``, the evaluator, starts, and watch its predictions."""
        super().attach(engine)
        files = ", ".join(map(str, list_checkpoints(self.load_path)))
        EmptyPredictions(f"was {files} trained long enough, and on images like these?").attach(engine)

    def __call__(self, engine: Engine) -> None:
        """Load the weights."""
        files = list_checkpoints(self.load_path)
        if not files:
            raise InputError("--checkpoint names no file; expected the model.pt in the output folder of a training")
        with exit_together():
            load_weights(unwrap_network(self.network), files[0], self.network_key)
        # For the record of the run: a path alone does not say which weights gave the scores. Of an ensemble
        # all; `EnsembleInferer`, which loads the others, refuses those that are missing.
        state: Any = engine.state
        state.checkpoint = {"path": ", ".join(map(str, files)), "sha256": ", ".join(map(_digest, files))}
        _LOGGER.info("weights from %s", files[0])
        found = [find_seen_cases(file, list_items(state.dataloader)) for file in files]
        for seen in filter(None, found):
            _LOGGER.warning("%s; the split that tells is --split val --fold %s, or test", seen, seen.fold)
            state.checkpoint["seen_in_training"] = max(seen.seen, state.checkpoint.get("seen_in_training", 0))


def _digest(path: Path) -> str:
    if not path.is_file():
        return "missing"
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
