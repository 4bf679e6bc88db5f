"""The mean prediction of several checkpoints of a network, as a wrapper around a bundle's inferer."""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer

from pipeline.inferers.averaging import Activation, PredictionMean
from pipeline.issues import InputError
from pipeline.parallel.wrapped import unwrap_network
from pipeline.weights import list_checkpoints, load_weights

_LOGGER = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class EnsembleInferer(Inferer):
    """Run another inferer with each of several checkpoints and return logits of their mean probability.

    It is the outermost inferer, around mixed precision, test-time augmentation and sliding windows. Each checkpoint is
    loaded into a copy of ``network`` at the first call and kept; the network from the evaluator is not used. So the
    device holds the weights of all checkpoints and of the evaluator's network. Time grows with the number of
    checkpoints.

    Raises:
        InputError: there is no checkpoint; at the first call: one is missing or does not fit the network.
        ValueError: the activation is unknown.

    Example:
        >>> import tempfile
        >>> from monai.inferers import SimpleInferer
        >>> files = [Path(tempfile.mkdtemp()) / "model.pt" for _ in range(2)]
        >>> for file, bias in zip(files, (0.8, 0.4)):
        ...     torch.save({"weight": torch.zeros(1, 1), "bias": torch.tensor([bias]).logit()}, file)
        >>> inferer = EnsembleInferer(SimpleInferer(), torch.nn.Linear(1, 1), files, "sigmoid")
        >>> round(inferer(torch.ones(1, 1), None).sigmoid().item(), 4)
        0.6
    """

    inferer: Inferer  #: the bundle's inferer
    network: torch.nn.Module  #: a network with the architecture of the checkpoints, such as ``"@network"``
    #: files such as the ``model.pt`` of each fold, or one text of paths separated by commas
    checkpoints: Sequence[str | Path] | str
    activation: Activation  #: makes probabilities of the network's output: "sigmoid" or "softmax"
    network_key: str = "network"  #: entry of the network in a *last* checkpoint

    def __post_init__(self) -> None:
        if self.activation is None:
            raise ValueError("activation must be 'sigmoid' or 'softmax': an ensemble averages probabilities")
        PredictionMean(self.activation)  # raises if it is unknown
        self._files = self.checkpoints = list_checkpoints(self.checkpoints)
        if not self._files:
            raise InputError("--checkpoints is empty; expected a list such as \"['fold0/model.pt', ...]\"")
        self._members: list[torch.nn.Module] = []

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return logits of the mean probability of all checkpoints; ``network`` is not used.

        Inputs are ``(B, C, *spatial)``; the result has the shape of the inferer's output.
        """
        if not self._members:
            self._members = [self._load(path, inputs.device) for path in self._files]
        mean = PredictionMean(self.activation)
        for member in self._members:
            mean.add(self.inferer(inputs, member, *args, **kwargs))
        return mean.compute()

    def _load(self, path: Path, device: torch.device) -> torch.nn.Module:
        member = copy.deepcopy(unwrap_network(self.network)).eval()
        load_weights(member, path, self.network_key, knob="checkpoints")
        _LOGGER.info("weights from %s", path)
        return member.to(device)
