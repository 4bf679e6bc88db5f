"""Load Google's weights of the hybrid R50+ViT (``.npz`` files of the ViT release) into the encoder of a TransUNet.

Names and layouts are those of the code that writes the files (google-research/vision_transformer, ``models_vit.py`` and
``models_resnet.py``) and of the code that reads them (Beckschen/TransUNet). **No real file was tried**, only files of
the same names and layouts that the tests write.

Kernels are transposed from Google's order (rows, columns, in, out) to PyTorch's; query, key and value become one
matrix; class token and classifier are left out; position embeddings are interpolated to the network's grid. For other
than three channels the first kernel is adapted by :func:`pipeline.networks.encoders.adapt_stem`; because kernels are
standardised afterwards, a single grey channel only approximates the result of repeating it to three channels (MONAI's
``RepeatChanneld``, the way of TransUNet's release).

Google's network pads one pixel less at the near end of strided layers, which shifts its maps slightly, and has 32
groups in the norms of its shortcuts; this one follows TransUNet's release, which loads the same weights.
"""

import logging
import math
import re
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from pipeline.flags import read_flag
from pipeline.issues import InputError
from pipeline.networks.encoders import adapt_stem
from pipeline.networks.transunet.encoder import HybridEncoder
from pipeline.networks.transunet.transformer import resize_position_embedding

_LOGGER = logging.getLogger(__name__)

_ROOT = "conv_root/kernel"
_POSITION = "Transformer/posembed_input/pos_embedding"
_LAYER = r"transformer\.layers\.(\d+)\."
_BLOCK = r"Transformer/encoderblock_\1/"
#: Our module -> theirs. Query, key and value are one layer here, three in the file.
_NAMES = (
    (r"stem\.conv", "conv_root"),
    (r"stem\.gn", "gn_root"),
    (r"stem\.(block\d)\.(unit\d+)\.(?:shortcut\.)?((?:conv|gn)(?:\d|_proj))", r"\1/\2/\3"),
    (r"transformer\.embedding", "embedding"),
    (r"transformer\.norm", "Transformer/encoder_norm"),
    (_LAYER + "norm1", _BLOCK + "LayerNorm_0"),
    (_LAYER + "norm2", _BLOCK + "LayerNorm_2"),
    (_LAYER + r"attn\.qkv", _BLOCK + "MultiHeadDotProductAttention_1/qkv"),
    (_LAYER + r"attn\.out_proj", _BLOCK + "MultiHeadDotProductAttention_1/out"),
    (_LAYER + r"mlp\.linear1", _BLOCK + "MlpBlock_3/Dense_0"),
    (_LAYER + r"mlp\.linear2", _BLOCK + "MlpBlock_3/Dense_1"),
)
_UNREADABLE = (ValueError, OSError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error)
#: The classifier and its token are in the file but not used here
_CLASSIFIER = re.compile(r"cls|head/.*|pre_logits/.*")


class _HasHybridEncoder(Protocol):
    """A network with the encoder that the file is for: a TransUNet."""

    encoder: HybridEncoder


def load_vit_npz(network: _HasHybridEncoder, path: str | Path, partial: bool | str = False) -> None:
    """Load the weights of a hybrid R50+ViT into the encoder; the decoder stays as it is.

    Made for ``R50+ViT-B_16.npz`` of https://storage.googleapis.com/vit_models/imagenet21k/.

    Args:
        network: its encoder gets the weights; it is changed only if they can be loaded.
        path: the file.
        partial: load the tensors that fit, and name the others in a warning.

    Raises:
        InputError: there is no such file, it is not an ``.npz`` file of plain numbers, it lacks tensors of the network,
            has others, or has some of another shape.
    """
    path = Path(path)
    partial = read_flag(partial, "partial")
    parameters = dict(network.encoder.named_parameters())
    heads = network.encoder.transformer.heads
    sources = {name: _find_source(name, tuple(parameter.shape), heads) for name, parameter in parameters.items()}
    arrays, unexpected = _read(path, {key for source in sources.values() for key in source.keys})
    fitting = [
        name
        for name, source in sources.items()
        if all(key in arrays and source.takes(arrays[key].shape) for key in source.keys)
    ]
    if not arrays:
        raise InputError(f"{path} holds no tensor of a hybrid ViT, such as {_ROOT}; expected Google's R50+ViT-B_16.npz")
    misfits = _describe_misfits(sources.values(), arrays, unexpected)
    if misfits and not (partial and fitting):
        raise InputError(
            f"{path} does not fit this TransUNet: {misfits}; "
            "use a file of the same blocks, layers and widths, or set partial to true to load what fits"
        )
    with torch.no_grad():
        for name in fitting:
            values = [torch.from_numpy(arrays[key].astype(np.float32)) for key in sources[name].keys]
            parameters[name].copy_(_convert(values, parameters[name], network.encoder.transformer.grid))
    _LOGGER.log(
        logging.WARNING if misfits else logging.INFO,
        "%d of the encoder's %d tensors are from %s%s",
        len(fitting),
        len(parameters),
        path,
        misfits and f"; {misfits}",
    )


@dataclass(frozen=True)
class _Source:
    """The tensors of the file that a parameter comes from: one or several, each of this shape."""

    keys: tuple[str, ...]
    shape: tuple[int, ...]

    def takes(self, shape: Sequence[int]) -> bool:
        """Return whether a tensor of the file has the right shape."""
        if self.keys == (_POSITION,):  # any square grid, with or without the class token
            return len(shape) == 3 and (shape[0], shape[2]) == (1, self.shape[2]) and _grid_side(shape[1]) > 0
        if len(self.shape) == 1:  # group norms may have the shape (1, 1, 1, C)
            return math.prod(shape) == self.shape[0]
        return tuple(shape) == self.shape


def _find_source(name: str, shape: tuple[int, ...], heads: tuple[int, int]) -> _Source:
    """Find where a parameter comes from.

    Args:
        name: the parameter's name in the network.
        shape: its shape.
        heads: attention heads, and channels of each.
    """
    module, _, kind = name.rpartition(".")
    if kind == "position_embedding":
        return _Source((_POSITION,), shape)
    theirs = next(match.expand(to) for pattern, to in _NAMES if (match := re.fullmatch(pattern, module)))
    kind = "bias" if kind == "bias" else "scale" if len(shape) == 1 else "kernel"
    if theirs.endswith("/qkv"):
        keys = tuple(f"{theirs.removesuffix('qkv')}{part}/{kind}" for part in ("query", "key", "value"))
        return _Source(keys, heads if kind == "bias" else (shape[1], *heads))
    key = f"{theirs}/{kind}"
    if key == _ROOT:
        return _Source((key,), (*shape[2:], 3, shape[0]))
    if key.endswith("/out/kernel"):
        return _Source((key,), (*heads, shape[0]))
    return _Source((key,), (*shape[2:], *shape[1::-1]))


def _read(path: Path, wanted: Collection[str]) -> tuple[dict[str, np.ndarray[Any, Any]], list[str]]:
    """Return the wanted tensors in the file, and the names of unexpected ones."""
    if not path.is_file():
        raise InputError(
            f"no weights at {path}; download R50+ViT-B_16.npz from "
            "https://storage.googleapis.com/vit_models/imagenet21k/, or train without weights"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files if key in wanted}
            others = [key for key in file.files if key not in wanted and not _CLASSIFIER.fullmatch(key)]
    except _UNREADABLE as error:
        raise InputError(f"{path} is not an .npz file of plain numbers: {str(error)[:200]}") from None
    for key, array in arrays.items():
        if array.dtype.kind != "f":
            raise InputError(f"{path} is not an .npz file of weights: {key} has the type {array.dtype}")
    return arrays, others


def _describe_misfits(sources: Collection[_Source], arrays: Mapping[str, Any], unexpected: Sequence[str]) -> str:
    """Describe the tensors that do not fit; an empty text if all do."""
    wanted = [(key, source) for source in sources for key in source.keys]
    misshapen = [
        f"{key}: {list(arrays[key].shape)} in the file, {list(source.shape)} in the network"
        for key, source in wanted
        if key in arrays and not source.takes(arrays[key].shape)
    ]
    findings = (
        ("missing", [key for key, _ in wanted if key not in arrays]),
        ("unexpected", unexpected),
        ("of another shape", misshapen),
    )
    return ", ".join(
        f"{len(names)} tensor{'s' * (len(names) > 1)} {kind} ({names[0]}{', ...' * (len(names) > 1)})"
        for kind, names in findings
        if names
    )


def _convert(values: list[torch.Tensor], parameter: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Turn the file's tensors into a parameter."""
    if parameter.ndim == 4:
        return adapt_stem(values[0].permute(3, 2, 0, 1), parameter.shape[1])
    if parameter.ndim == 3:
        tokens = values[0]
        side = _grid_side(tokens.shape[1])
        return resize_position_embedding(tokens[:, -side * side :], (side, side), grid)
    if parameter.ndim == 2:
        return torch.cat([value.reshape(parameter.shape[1], -1).T for value in values])
    return torch.cat([value.flatten() for value in values])


def _grid_side(n_tokens: int) -> int:
    """Return the side of a square grid of tokens, which may have one more for the class; 0 if there is none."""
    side = math.isqrt(n_tokens)
    return side if n_tokens - side * side <= 1 else 0
