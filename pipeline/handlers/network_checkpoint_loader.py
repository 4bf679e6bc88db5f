"""Weights for evaluation and inference, with an answer in one line when they do not fit."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events

from pipeline.handlers.exits import keep_one_line
from pipeline.issues import InputError

__all__ = ["NetworkCheckpointLoader"]

_LOGGER = logging.getLogger(__name__)


class NetworkCheckpointLoader:
    """Load a network's weights when the engine starts: a raw state dict, or one entry of a *last* checkpoint.

    MONAI's ``CheckpointLoader`` does the same, but answers a missing or foreign file with a page of trace. (The name
    ends in the same word because MONAI's federated client looks for it, to switch loading off.)

    Args:
        load_path: ``model.pt`` or ``last_epoch=N.pt``.
        network: gets the weights; every key must fit.
        network_key: entry of a *last* checkpoint that is the network.

    Raises:
        InputError: when the run starts: the file is missing, is no checkpoint of plain tensors, or has other keys or
            shapes than the network.
    """

    def __init__(self, load_path: str | Path, network: torch.nn.Module, network_key: str = "network") -> None:
        self.load_path = Path(load_path)
        self.network = network
        self.network_key = network_key

    def attach(self, engine: Engine) -> None:
        """Load when ``engine`` starts."""
        engine.add_event_handler(Events.STARTED, self)
        keep_one_line(engine)

    def __call__(self, engine: Engine) -> None:
        """Load the weights."""
        if not self.load_path.is_file():
            raise InputError(
                f"no checkpoint at {self.load_path}; name one with --checkpoint, "
                "such as the model.pt in the output folder of a training"
            )
        state = self._read()
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            lines = [" ".join(line.split()) for line in str(error).splitlines()[1:]]
            more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
            raise InputError(
                f"{self.load_path} does not fit the network of this config: {lines[0][:300] if lines else error}{more}"
            ) from None
        _LOGGER.info("weights from %s", self.load_path)

    def _read(self) -> Mapping[str, Any]:
        try:
            content = torch.load(self.load_path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{self.load_path} is no checkpoint of plain tensors: {reason}") from None
        if isinstance(content, Mapping) and isinstance(content.get(self.network_key), Mapping):
            content = content[self.network_key]
        if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
            raise InputError(f"{self.load_path} holds no state dict; expected the weights of a network")
        return content
