"""Kernels for exponentials, by numba: exp, tanh and softmax of a block, vectorised."""

from typing import Any

import numpy as np

from pipeline.crf.kernel_compiler import compiled

_LOG2E = np.float32(1.4426950408889634)
_LEAST = np.float32(-126.0)  # of an exponent of 2


@compiled
def exp_block(values: Any, bits: Any, powers: Any, count: int) -> None:
    """Replace non-positive values by their exponential, to 2e-7 relative; vectorised, unlike the library's.

    ``powers`` shows ``bits`` as float32. exp(x) = 2^n 2^f with |f| <= 1/2; 2^f is its Taylor series of degree 7.
    """
    for p in range(count):
        scaled = max(values[p] * _LOG2E, _LEAST)
        whole = np.floor(scaled + np.float32(0.5))
        f = scaled - whole
        bits[p] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        series = np.float32(1.525273380405984e-05)
        series = series * f + np.float32(1.5403530393381608e-04)
        series = series * f + np.float32(1.3333558146428443e-03)
        series = series * f + np.float32(9.618129107628477e-03)
        series = series * f + np.float32(5.550410866482158e-02)
        series = series * f + np.float32(2.402265069591007e-01)
        series = series * f + np.float32(6.931471805599453e-01)
        values[p] = series * f + np.float32(1.0)
    for p in range(count):
        values[p] *= powers[p]


@compiled
def tanh_block(values: Any, work: Any, bits: Any, powers: Any, count: int) -> None:
    """Replace logit differences by the difference of the two probabilities, tanh(x / 2)."""
    for p in range(count):
        work[p] = -abs(values[p])
    exp_block(work, bits, powers, count)
    for p in range(count):
        size = (np.float32(1.0) - work[p]) / (np.float32(1.0) + work[p])
        values[p] = size if values[p] >= np.float32(0.0) else -size


@compiled
def softmax_block(values: Any, top: Any, bits: Any, powers: Any, count: int) -> None:
    """Replace logits (labels, n) by probabilities."""
    top[:count] = values[0, :count]
    for label in range(1, values.shape[0]):
        for p in range(count):
            top[p] = max(top[p], values[label, p])
    for label in range(values.shape[0]):
        for p in range(count):
            values[label, p] -= top[p]
        exp_block(values[label], bits, powers, count)
    top[:count] = values[0, :count]
    for label in range(1, values.shape[0]):
        for p in range(count):
            top[p] += values[label, p]
    for label in range(values.shape[0]):
        for p in range(count):
            values[label, p] /= top[p]
