"""Load the weights of a network from a checkpoint, with a one-line error if they do not fit."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.issues import InputError


def list_checkpoints(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the paths in a setting that names one checkpoint or several.

    Args:
        given: a file, a list of files, or one text that separates them by commas.

    Example:
        >>> [path.name for path in list_checkpoints("fold0/a.pt, fold1/b.pt")]
        ['a.pt', 'b.pt']
    """
    if isinstance(given, (str, Path)):
        # A file name may contain a comma.
        given = [given] if Path(given).is_file() else str(given).split(",")
    return [Path(str(path).strip()) for path in given if str(path).strip()]


def read_weights(
    path: str | Path, network_key: str = "network", knob: str = "checkpoint"
) -> Mapping[str, torch.Tensor]:
    """Read the state dict of a network: a raw one, or an entry of a *last* checkpoint.

    Args:
        path: ``model.pt`` or ``last_epoch=N.pt``.
        network_key: the network's entry in a *last* checkpoint.
        knob: the option that names the file, for the message.

    Returns:
        The weights by name, on the CPU.

    Raises:
        InputError: the file is missing, is not a checkpoint of plain tensors, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"no checkpoint at {path}; name one with --{knob}, such as the model.pt in the output folder of a training"
        )
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not a checkpoint of plain tensors: {reason}") from None
    if isinstance(content, Mapping) and isinstance(content.get(network_key), Mapping):
        content = content[network_key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"{path} holds no state dict; expected the weights of a network")
    return content


def load_weights(
    network: torch.nn.Module, path: str | Path, network_key: str = "network", knob: str = "checkpoint"
) -> None:
    """Load the weights of a checkpoint into a network; every key must fit.

    Args:
        network: gets the weights.
        path: see `read_weights`.
        network_key: see `read_weights`.
        knob: see `read_weights`.

    Raises:
        InputError: as `read_weights`, or the checkpoint has other keys or shapes than the network.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.pt"
        >>> torch.save({"weight": torch.ones(1, 1), "bias": torch.zeros(1)}, path)
        >>> network = torch.nn.Linear(1, 1)
        >>> load_weights(network, path)
        >>> network.weight.item()
        1.0
    """
    state = read_weights(path, network_key, knob)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        lines = [" ".join(line.split()) for line in str(error).splitlines()[1:]]
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        raise InputError(
            f"{path} does not fit the network of this config: {lines[0][:300] if lines else error}{more}"
        ) from None
