"""Start a training from the weights of another one."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine

from pipeline.flags import read_flag
from pipeline.handlers.run.batch_cases import list_items
from pipeline.issues import InputError
from pipeline.parallel.wrapped import unwrap_network
from pipeline.runs.seen_cases import find_seen_cases
from pipeline.weights import find_misfit, read_weights

_LOGGER = logging.getLogger(__name__)
KNOB = "initial_weights"


@dataclass(eq=False, repr=False)
class InitialWeights:
    """Load the weights from which a training starts, such as those of a bundle, to go on with other data.

    Tensors whose name and shape are those of the network are copied, whatever their precision; the others, such as a
    last layer for another number of labels, keep their random values, and a warning names them. A training that is
    resumed has its weights from its checkpoint, and in the rounds of federated learning those of the server count:
    the file is read when the handler is attached, before either of them.

    Raises:
        InputError: in ``attach``: the file is missing, is not a checkpoint of plain tensors, or fewer than half of the
            network's tensors are in it; one line.
    """

    network: torch.nn.Module  #: of the training; may be wrapped for data-parallel training
    path: (
        str | Path | None
    )  #: a ``model.pt`` or ``last_epoch=N.pt``; None (or the text "none") starts from random weights
    resume: bool | str = False  #: the training continues from a checkpoint
    evaluator: Any = None  #: of the training; with it a warning says which of its cases the weights were trained on

    def __post_init__(self) -> None:
        self.resume = read_flag(self.resume, "resume")
        if names_nothing(self.path):
            self.path = None
        self._record: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Load, if there is a file and the training is not resumed."""
        if self.path is None or self.resume:
            return
        network = unwrap_network(self.network)
        given = read_weights(self.path, knob=KNOB)
        wanted = network.state_dict()
        copied = {n: value for n, value in given.items() if n in wanted and wanted[n].shape == value.shape}
        if 2 * len(copied) < len(wanted):
            raise InputError(
                f"{self.path} does not fit the network of this config: {len(copied)} of {len(wanted)} tensors do; "
                f"{find_misfit(wanted, given)}; name weights of such a network with --{KNOB}"
            )
        network.load_state_dict({**wanted, **copied})
        digest = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        self._record = {"path": str(self.path), "sha256": digest, "tensors": len(copied), "of": len(wanted)}
        _LOGGER.info("the training starts from %s: %d of %d tensors", self.path, len(copied), len(wanted))
        if left := len(wanted) - len(copied):
            _LOGGER.warning("%d tensors start from random values: %s", left, find_misfit(wanted, given))

        seen = find_seen_cases(Path(self.path), list_items(getattr(self.evaluator, "data_loader", None)))
        if seen:
            _LOGGER.warning("%s; train with --fold %s", seen, seen.fold)

    def describe(self) -> dict[str, Any]:
        """Return the entry of the run's record."""
        return {KNOB: self._record} if self._record else {}


def names_nothing(path: str | Path | None) -> bool:
    """Return whether a setting names no file: None, an empty text or "none".

    Example:
        >>> names_nothing("None"), names_nothing("model.pt")
        (True, False)
    """
    return str(path).strip().lower() in ("", "none", "null")
