"""Save a predicted case as plain tensors, and load it with ``weights_only=True``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from pipeline.atomic import write_atomically
from pipeline.weights import read_plain

_VERSION = 1
_NARROW = 255  # labels that fit are kept in one byte


def save_case(path: Path, data: Mapping[str, Any], seconds: float) -> None:
    """Save the entries of a case, whole or not at all.

    Args:
        path: of the file.
        data: tensors, with or without meta data, texts and numbers; anything else is left out.
        seconds: of the prediction.
    """
    content = {"version": _VERSION, "seconds": seconds, "data": _pack_meta(data)}
    with write_atomically(path, "wb") as stream:
        torch.save(content, stream)


def load_case(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Any], float] | None:
    """Load a file of `save_case`; None if it is missing, damaged or of another version.

    Args:
        path: of the file.
        device: gets the tensors.

    Returns:
        The entries, and the seconds of the prediction.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "case.pt"
        >>> pred = MetaTensor(torch.rand(1, 2, 2), meta={"filename_or_obj": "a.png"})
        >>> save_case(path, {"pred": pred, "label": torch.tensor([[[0.0, 1.0]]])}, 0.5)
        >>> data, seconds = load_case(path)
        >>> data["pred"].meta["filename_or_obj"], data["label"].dtype, bool((data["pred"] == pred).all()), seconds
        ('a.png', torch.float32, True, 0.5)
    """
    try:
        content = read_plain(path)
        if content["version"] != _VERSION:
            return None
        return {key: _unpack(value, device) for key, value in content["data"].items()}, float(content["seconds"])
    except (ValueError, KeyError, TypeError):
        return None


def _pack(value: Any) -> Any:
    """Return a value as tensors, texts, numbers, lists and dicts of these; None for anything else."""
    if isinstance(value, torch.Tensor):
        plain = value.as_tensor() if isinstance(value, MetaTensor) else value
        packed: dict[str, Any] = {"tensor": _narrow(plain.detach().cpu()), "dtype": str(plain.dtype).split(".")[-1]}
        if isinstance(value, MetaTensor):
            packed["meta"] = _pack_meta(value.meta)
        return packed
    if isinstance(value, np.ndarray | np.generic):
        return {"array": torch.as_tensor(np.asarray(value))} if value.dtype.kind in "biuf" else None
    if isinstance(value, bool | int | float | str):
        # Plain, because MONAI's enums of texts would not load again.
        return str(value.value) if isinstance(value, str) and hasattr(value, "value") else value
    return None


def _pack_meta(meta: Mapping[Any, Any]) -> dict[str, Any]:
    packed = {str(getattr(key, "value", key)): _pack(value) for key, value in meta.items()}
    return {key: value for key, value in packed.items() if value is not None}


def _narrow(plain: torch.Tensor) -> torch.Tensor:
    if plain.dtype == torch.uint8 or not plain.numel():
        return plain.clone()
    low, high = plain.aminmax()
    narrow = plain.to(torch.uint8) if low >= 0 and high <= _NARROW else plain
    return (narrow if bool((narrow == plain).all()) else plain).clone()


def _unpack(value: Any, device: torch.device | str = "cpu") -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return value["array"].numpy()
    tensor = value["tensor"].to(device=device, dtype=getattr(torch, value["dtype"]))
    if "meta" not in value:
        return tensor
    meta = {key: _unpack(item) for key, item in value["meta"].items()}
    return MetaTensor(tensor, meta=meta)
