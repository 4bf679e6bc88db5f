"""The transformer half of a hybrid encoder: patch and position embeddings, and layers of MONAI's blocks."""

import torch
from monai.networks.blocks.mlp import MLPBlock
from monai.networks.blocks.selfattention import SABlock
from torch import nn
from torch.nn import functional as F

#: Added to the variance in layer norm, as in ViT; PyTorch's and MONAI's default is 1e-5
LAYER_NORM_EPS = 1e-6


def resize_position_embedding(
    embedding: torch.Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]
) -> torch.Tensor:
    """Interpolate position embeddings to another grid: bilinear, corners on corners.

    The reference implementation does this once, when it loads weights (``scipy.ndimage.zoom`` with ``order=1``).

    Args:
        embedding: ``(1, rows * columns, hidden_size)``.
        old_grid: its rows and columns.
        new_grid: the rows and columns to return.

    Example:
        >>> line = torch.tensor([0.0, 1.0, 2.0]).reshape(1, 3, 1)
        >>> resize_position_embedding(line, (1, 3), (1, 5)).flatten().tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    if old_grid == new_grid:
        return embedding
    grid = embedding.transpose(1, 2).reshape(1, -1, old_grid[0], old_grid[1])
    grid = F.interpolate(grid, size=[new_grid[0], new_grid[1]], mode="bilinear", align_corners=True)
    return grid.flatten(2).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Layer of ViT: ``x + attention(norm(x))``, then ``x + mlp(norm(x))``.

    Attention and MLP are MONAI's ``SABlock`` and ``MLPBlock``. MONAI's ``TransformerBlock`` joins the same two, but has
    layer norms with another epsilon, a norm (of cross-attention) that is never used, which DistributedDataParallel
    refuses, and one dropout rate for both MLP and attention, which differ in the reference implementation.

    Args:
        hidden_size: channels of a token.
        num_heads: attention heads.
        mlp_dim: channels inside the MLP.
        dropout_rate: of the MLP.
        attention_dropout_rate: of the attention weights and of attention's output.
    """

    def __init__(
        self, hidden_size: int, num_heads: int, mlp_dim: int, dropout_rate: float, attention_dropout_rate: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.attn = SABlock(
            hidden_size,
            num_heads,
            float(attention_dropout_rate),
            qkv_bias=True,
            # PyTorch's fused attention saves memory, but MONAI 1.6 passes it the dropout rate in eval mode, too
            use_flash_attention=attention_dropout_rate == 0,
        )
        self.norm2 = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.mlp = MLPBlock(hidden_size, mlp_dim, float(dropout_rate))
        for linear in (self.mlp.linear1, self.mlp.linear2):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.normal_(linear.bias, std=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute ``(B, tokens, hidden_size)`` from the same."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT over a map of features: every pixel of the map is a patch (the 1x1 patch embedding of hybrid models).

    There is no class token. Position embeddings start as in ViT, normal with standard deviation 0.02 (in the reference
    implementation they are zeros that loaded weights replace).

    Args:
        in_channels: channels of the features.
        grid: rows and columns of the map that the position embeddings are made for; for another map they are
            interpolated by :func:`resize_position_embedding`.
        hidden_size: channels of a token.
        num_layers: layers.
        num_heads: attention heads.
        mlp_dim: channels inside the MLPs.
        dropout_rate: of the embeddings and the MLPs.
        attention_dropout_rate: of attention.
    """

    def __init__(
        self,
        in_channels: int,
        grid: tuple[int, int],
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        mlp_dim: int,
        dropout_rate: float,
        attention_dropout_rate: float,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.heads = (num_heads, hidden_size // num_heads)
        self.embedding = nn.Conv2d(in_channels, hidden_size, kernel_size=1)
        self.position_embedding = nn.Parameter(torch.zeros(1, grid[0] * grid[1], hidden_size))
        nn.init.normal_(self.position_embedding, std=0.02)
        self.dropout = nn.Dropout(dropout_rate)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_size, num_heads, mlp_dim, dropout_rate, attention_dropout_rate)
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute ``(B, hidden_size, h, w)`` from features ``(B, in_channels, h, w)``."""
        x = self.embedding(x)
        rows, columns = x.shape[2], x.shape[3]
        position = resize_position_embedding(self.position_embedding, self.grid, (rows, columns))
        tokens = self.dropout(x.flatten(2).transpose(1, 2) + position)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens).transpose(1, 2).reshape(x.shape[0], -1, rows, columns)
