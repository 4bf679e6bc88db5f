"""Parameter groups with a lower learning rate for a pretrained encoder."""

from typing import Any

from torch import nn


def parameter_groups(
    network: nn.Module, learning_rate: float | str, encoder_factor: float | str = 0.1
) -> list[dict[str, Any]]:
    """Return parameter groups for an optimizer: the encoder learns more slowly than the rest.

    In a config: ``"params": {"_target_": "pipeline.networks.parameter_groups", "network": "@network", ...}``.

    Args:
        network: has its encoder under ``network.encoder``; may be wrapped for data-parallel training.
        learning_rate: of all parameters outside the encoder.
        encoder_factor: the encoder's learning rate as a fraction of the other.

    Returns:
        The rest, then the encoder, each with its ``lr``; frozen parameters are left out, and so is a
        completely frozen encoder.

    Raises:
        ValueError: the network has no encoder, nothing trains, or a number is not positive.

    Example:
        >>> from pipeline.networks import UNetPlusPlus
        >>> network = UNetPlusPlus(2, 3, 1, encoder="resnet18", encoder_depth=2)
        >>> [(len(group["params"]), group["lr"]) for group in parameter_groups(network, 0.001, 0.125)]
        [(14, 0.001), (15, 0.000125)]
    """
    rate, factor = float(learning_rate), float(encoder_factor)
    if not (rate > 0 and factor > 0):
        raise ValueError(f"learning_rate and encoder_factor must be above 0, got {rate} and {factor}")
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    inner = network.module if isinstance(network, parallel) else network
    encoder = getattr(inner, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise ValueError(
            f"{type(inner).__name__} has no part called encoder, so its learning rate cannot differ; "
            'for one learning rate write "params": "$@network.parameters()"'
        )
    own = {id(parameter) for parameter in encoder.parameters()}
    training = [parameter for parameter in inner.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in training if id(parameter) not in own], "lr": rate},
        {"params": [parameter for parameter in training if id(parameter) in own], "lr": rate * factor},
    ]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise ValueError(f"nothing of {type(inner).__name__} trains: every parameter is frozen")
    return groups
