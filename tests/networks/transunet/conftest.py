"""A TransUNet small enough for tests, and a file in the layout of Google's weights for one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.networks.transunet import TransUNet

SMALL = {
    "out_channels": 2,
    "img_size": 64,
    "hidden_size": 24,
    "num_layers": 2,
    "num_heads": 3,
    "mlp_dim": 40,
    "block_units": (2, 1, 1),
    "width_factor": 0.5,
    "head_channels": 16,
    "decoder_channels": (16, 8, 8, 4),
}


@pytest.fixture
def build_small() -> Callable[..., TransUNet]:
    """A function that builds the small network in eval mode; arguments replace those of SMALL."""
    return lambda **arguments: TransUNet(**{**SMALL, **arguments}).eval()


@pytest.fixture
def google_weights() -> dict[str, np.ndarray]:
    """Random tensors with the names and layouts of ``R50+ViT-B_16.npz``, for the small network."""
    return write_google(hidden=24, layers=2, heads=3, mlp=40, units=(2, 1, 1), width=32, grid=4)


@pytest.fixture
def weights_path(google_weights: dict[str, np.ndarray], tmp_path: Path) -> Path:
    path = tmp_path / "R50+ViT-test.npz"
    np.savez(path, **google_weights)
    return path


def write_google(
    hidden: int, layers: int, heads: int, mlp: int, units: tuple[int, ...], width: int, grid: int
) -> dict[str, np.ndarray]:
    shapes: dict[str, tuple[int, ...]] = {"cls": (1, 1, hidden), "conv_root/kernel": (7, 7, 3, width)}
    shapes |= norm("gn_root", width)
    before = width
    for block, n_units in enumerate(units, start=1):
        middle, after = width * 2 ** (block - 1), 4 * width * 2 ** (block - 1)
        for unit in range(1, n_units + 1):
            shapes |= residual_unit(f"block{block}/unit{unit}", before, middle, after)
            before = after
    shapes |= {"embedding/kernel": (1, 1, before, hidden), "embedding/bias": (hidden,)}
    shapes["Transformer/posembed_input/pos_embedding"] = (1, grid * grid + 1, hidden)
    for layer in range(layers):
        shapes |= transformer_layer(f"Transformer/encoderblock_{layer}", hidden, heads, mlp)
    shapes |= norm("Transformer/encoder_norm", hidden)
    shapes |= dense("pre_logits", hidden, hidden) | dense("head", hidden, 5)
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def residual_unit(name: str, before: int, middle: int, after: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    if before != after:
        shapes |= {f"{name}/conv_proj/kernel": (1, 1, before, after), **norm(f"{name}/gn_proj", after)}
    for number, (size, from_, to) in enumerate(((1, before, middle), (3, middle, middle), (1, middle, after)), start=1):
        shapes |= {f"{name}/conv{number}/kernel": (size, size, from_, to), **norm(f"{name}/gn{number}", to)}
    return shapes


def transformer_layer(name: str, hidden: int, heads: int, mlp: int) -> dict[str, tuple[int, ...]]:
    attention, depth = f"{name}/MultiHeadDotProductAttention_1", hidden // heads
    shapes = norm(f"{name}/LayerNorm_0", hidden) | norm(f"{name}/LayerNorm_2", hidden)
    for part in ("query", "key", "value"):
        shapes |= {f"{attention}/{part}/kernel": (hidden, heads, depth), f"{attention}/{part}/bias": (heads, depth)}
    shapes |= {f"{attention}/out/kernel": (heads, depth, hidden), f"{attention}/out/bias": (hidden,)}
    return shapes | dense(f"{name}/MlpBlock_3/Dense_0", hidden, mlp) | dense(f"{name}/MlpBlock_3/Dense_1", mlp, hidden)


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/scale": (channels,), f"{name}/bias": (channels,)}


def dense(name: str, before: int, after: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}/kernel": (before, after), f"{name}/bias": (after,)}
