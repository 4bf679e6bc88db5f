import numpy as np
import pytest
import scipy.ndimage
import torch
from torch.nn import functional as F

from pipeline.networks.transunet.transformer import (
    TransformerLayer,
    VisionTransformer,
    resize_position_embedding,
)


@pytest.mark.parametrize("attention_dropout_rate", [0.0, 0.5])
def test_layer_is_pre_norm_attention_and_mlp(attention_dropout_rate: float) -> None:
    """In eval mode, whether MONAI's attention is fused (no dropout) or written out (dropout)."""
    torch.manual_seed(0)
    layer = TransformerLayer(12, 3, 20, 0.5, attention_dropout_rate).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 5, 12)
    normed = F.layer_norm(x, (12,), layer.norm1.weight, layer.norm1.bias, eps=1e-6)
    query, key, value = (
        part.reshape(2, 5, 3, 4).transpose(1, 2)
        for part in F.linear(normed, layer.attn.qkv.weight, layer.attn.qkv.bias).split(12, dim=-1)
    )
    weights = (query @ key.transpose(-1, -2) / 4**0.5).softmax(-1)
    attended = (weights @ value).transpose(1, 2).reshape(2, 5, 12)
    y = x + F.linear(attended, layer.attn.out_proj.weight, layer.attn.out_proj.bias)
    normed = F.layer_norm(y, (12,), layer.norm2.weight, layer.norm2.bias, eps=1e-6)
    hidden = F.gelu(F.linear(normed, layer.mlp.linear1.weight, layer.mlp.linear1.bias))
    expected = y + F.linear(hidden, layer.mlp.linear2.weight, layer.mlp.linear2.bias)
    torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("attention_dropout_rate", [0.0, 0.5])
def test_dropout_acts_in_training_only(attention_dropout_rate: float) -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(12, 3, 20, 0.5, attention_dropout_rate)
    x = torch.randn(1, 5, 12)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_positions_are_resized_as_by_the_reference() -> None:
    embedding = np.random.default_rng(0).standard_normal((14, 14, 6)).astype(np.float32)
    expected = scipy.ndimage.zoom(embedding, (16 / 14, 16 / 14, 1), order=1)
    ours = resize_position_embedding(torch.from_numpy(embedding).reshape(1, 196, 6), (14, 14), (16, 16))
    np.testing.assert_allclose(ours.reshape(16, 16, 6).numpy(), expected, atol=1e-5)


def test_positions_of_an_equal_grid_stay_as_they_are() -> None:
    embedding = torch.randn(1, 6, 4)
    assert resize_position_embedding(embedding, (2, 3), (2, 3)) is embedding


def test_rows_and_columns_keep_their_order() -> None:
    """Without layers, a token is norm(embedded pixel + position) at its own place."""
    transformer = VisionTransformer(2, (2, 3), 4, 0, 1, 4, 0.0, 0.0).eval()
    x = torch.randn(1, 2, 2, 3)
    result = transformer(x)
    pixel = transformer.embedding(x)[0, :, 1, 2] + transformer.position_embedding[0, 1 * 3 + 2]
    torch.testing.assert_close(result[0, :, 1, 2], F.layer_norm(pixel, (4,), eps=1e-6))
