"""Load pretrained weights into a network's encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine

from pipeline.flags import read_flag
from pipeline.handlers.checkpoints.initial_weights import names_nothing
from pipeline.handlers.run.exits import OneLineHandler
from pipeline.issues import InputError
from pipeline.parallel.agreement import exit_together
from pipeline.parallel.wrapped import unwrap_network


@dataclass(eq=False, repr=False)
class EncoderWeightsLoader(OneLineHandler):
    """Load pretrained weights into a network's encoder when a training starts, but not when it is resumed or goes on.

    They are not part of ``network_def``, because inference builds the same network without the pretrained file.

    Raises:
        InputError: the network has no such method; when the run starts: the weights cannot be read or do not fit.
    """

    #: with a method ``load_encoder_weights(weights, partial)``, such as `pipeline.networks.UNetPlusPlus`; may be
    #: wrapped for data-parallel training.
    network: Any
    #: a file, a name such as ``"imagenet"``, or ``hf://owner/repository/file@sha256``; None (or the text "none")
    #: trains from random weights.
    weights: str | Path | None
    partial: bool | str = False  #: accept weights of only a part of the encoder
    resume: bool | str = False  #: the training continues from a checkpoint, which contains the encoder's weights
    #: of the whole network, see `InitialWeights`; with them these are left out
    initial_weights: str | Path | None = None

    def __post_init__(self) -> None:
        self._loaded = False
        self.network = unwrap_network(self.network)
        self.partial = read_flag(self.partial, "encoder_partial")
        self.resume = read_flag(self.resume, "resume")
        if names_nothing(self.weights):
            self.weights = None
        if self.weights is not None and not hasattr(self.network, "load_encoder_weights"):
            raise InputError(
                f"--encoder_weights {self.weights}: {type(self.network).__name__} has no pretrained encoder; "
                "leave the option out, or choose another network"
            )

    def __call__(self, engine: Engine) -> None:
        """Load the weights, if there are any and the training has no others."""
        if self.weights is None or self.resume or self._loaded or not names_nothing(self.initial_weights):
            return
        self._loaded = True
        for first in (True, False):  # one process per machine downloads the file first
            with exit_together():
                if (idist.get_local_rank() == 0) is first:
                    self.network.load_encoder_weights(self.weights, partial=self.partial)
