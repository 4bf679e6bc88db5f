"""Compare the network that a config builds with the tensors that ``metadata.json`` declares."""

from collections.abc import Iterator
from typing import Any

from pipeline.bundle.configs import Config
from pipeline.issues import Issue

_FILE = "metadata.json"


def check_network(config: Config, metadata: Config, file: str) -> Iterator[Issue]:
    """Yield what differs between the built network and the declared input and output, and why it cannot be built.

    The network is built without memory for its weights, on torch's device "meta", and gets one input of the declared
    shape. Layers that cannot run there are not judged.

    Args:
        config: complete config with a ``network_def``.
        metadata: content of ``metadata.json``.
        file: name of the config.
    """
    formats = metadata.get("network_data_format")
    if not isinstance(config.get("network_def"), dict) or not isinstance(formats, dict):
        return
    given, wanted = (_read_tensor(formats.get(kind)) for kind in ("inputs", "outputs"))
    network = _build(config)
    if isinstance(network, Exception):
        cause: BaseException = network
        while cause.__cause__ is not None:
            cause = cause.__cause__
        yield Issue("network", "error", f"network_def cannot be built: {cause}", "network_def", file)
    elif given is not None and wanted is not None:
        yield from _compare(network, given, wanted)


def _build(config: Config) -> Any:
    import torch
    from monai.bundle import ConfigParser

    try:
        with torch.device("meta"):
            return ConfigParser(dict(config)).get_parsed_content("network_def")
    except Exception as error:  # whatever a constructor raises
        return error


def _read_tensor(tensors: Any) -> tuple[int, list[int]] | None:
    """Return channels and sizes of the only tensor; None if there are several or sizes are expressions."""
    tensor = next(iter(tensors.values())) if isinstance(tensors, dict) and len(tensors) == 1 else None
    if not isinstance(tensor, dict) or not isinstance(tensor.get("num_channels"), int):
        return None
    shape = tensor.get("spatial_shape")
    whole = isinstance(shape, list) and bool(shape) and all(isinstance(size, int) for size in shape)
    return (tensor["num_channels"], shape) if whole and isinstance(shape, list) else None


def _compare(network: Any, given: tuple[int, list[int]], wanted: tuple[int, list[int]]) -> Iterator[Issue]:
    import torch

    place = "network_data_format"
    try:
        with torch.no_grad():
            out = network.eval()(torch.empty(1, given[0], *given[1], device="meta"))
    except NotImplementedError:  # an operation without shapes alone
        return
    except Exception as error:
        if "meta" not in str(error):
            shape = (1, given[0], *given[1])
            message = f"the network does not take the declared input {shape}: {str(error).splitlines()[0]}"
            yield Issue("channels", "error", message, f"{place}#inputs", _FILE, "compare num_channels and network_def")
        return
    found = tuple(out.shape[1:]) if isinstance(out, torch.Tensor) else None
    expected = (wanted[0], *wanted[1])
    if found != expected:
        what = f"{found}" if found else f"{type(out).__name__}"
        message = f"the network returns {what} (channels, sizes), declared is {expected}"
        yield Issue("channels", "error", message, f"{place}#outputs", _FILE, "compare num_channels and network_def")
