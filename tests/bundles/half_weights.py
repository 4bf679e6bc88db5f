"""Weights in half precision, for bundles whose float32 weights are too large for the repository.

``python -m tests.bundles.half_weights runs/NAME/model.pt HALF.pt``. Evaluate the file it writes, not its source: the
record of a bundle is that of the weights that come with it. Compare the scores of both before releasing it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch


def halve(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Round kernels to float16; vectors and scalars (biases, normalisation, its statistics) stay: few, wide in range.

    Raises ``ValueError`` for a value beyond the range of float16.
    """
    halves = {}
    for name, tensor in weights.items():
        is_kernel = tensor.ndim > 1 and tensor.is_floating_point()
        halves[name] = tensor.half() if is_kernel else tensor
        if not halves[name].isfinite().all():
            raise ValueError(f"{name} holds values that float16 cannot; expected up to 65504: keep float32")
    return halves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    torch.save(halve(torch.load(options.source, map_location="cpu", weights_only=True)), options.target)


if __name__ == "__main__":
    main()
