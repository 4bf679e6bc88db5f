"""Mean-field inference in a fully connected CRF: checks, and the choice of what computes it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from pipeline.crf.arguments import Parameters, check_parameters, check_shapes, check_values
from pipeline.crf.memory import CaseTooLargeError, check_memory

__all__ = ["mean_field", "mean_field_batch"]

BACKENDS = ("auto", "numba", "torch", "exact")


def mean_field(
    prob: Any,
    image: Any,
    *,
    spatial_weight: float,
    spatial_width: float | Sequence[float],
    bilateral_weight: float,
    bilateral_width: float | Sequence[float],
    bilateral_intensity: float,
    iterations: int,
    spacing: Sequence[float] | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    r"""Sharpen probabilities by a fully connected CRF with Gaussian edge potentials.

    Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NIPS 2011, with
    the Potts model and symmetrically normalised kernels. With the unary energy :math:`-\log p_i(l)` and Q the
    approximate marginals, one iteration is, for all points i and labels l at once,

    .. math::
        Q_i(l) \leftarrow \mathrm{softmax}_l\Big(\log p_i(l)
            + w_s \sum_j \hat{k}^s_{ij} Q_j(l) + w_b \sum_j \hat{k}^b_{ij} Q_j(l)\Big),

        k^s_{ij} = \exp\Big(-\frac{|x_i - x_j|^2}{2 \theta_s^2}\Big), \qquad
        k^b_{ij} = \exp\Big(-\frac{|x_i - x_j|^2}{2 \theta_b^2} - \frac{|I_i - I_j|^2}{2 \theta_I^2}\Big), \qquad
        \hat{k} = D^{-1/2} k D^{-1/2},

    with x the position, I the intensities and D the row sums of k. A point's own term (i = j) is kept, as in the
    authors' code. The sums run over all points; the permutohedral lattice (Adams et al. 2010) filters in linear time.
    It is an approximation: single points next to an edge can differ from the exact sums by some hundredths after one
    iteration and by less than 0.01 after five (``backend="exact"`` compares).

    Args:
        prob: probabilities ``(L, *spatial)`` of two labels or more, which sum to one; zeros count as 1e-5. NumPy array
            or tensor; float32 is computed in, whatever comes.
        image: ``(*spatial, C)``, of the same kind and grid, for example 0 to 255 as in the file.
        spatial_weight: :math:`w_s`, 0 for no smoothness kernel.
        spatial_width: :math:`\theta_s` in voxels (or mm, see ``spacing``); one number, or one for each axis of space
            in the order of the array.
        bilateral_weight: :math:`w_b`, 0 for no appearance kernel.
        bilateral_width: :math:`\theta_b`, as ``spatial_width``.
        bilateral_intensity: :math:`\theta_I` in units of the image.
        iterations: 5 to 10 are usual; 0 gives ``prob`` back.
        spacing: mm from voxel to voxel along each axis of space; widths are in mm then.
        backend: ``"numba"`` (CPU, compiled), ``"torch"`` (any device), ``"exact"`` (all pairs, at most 8192 points,
            result float64), or ``"auto"``: numba for what lies on the CPU where it is installed, else torch.
        threads: of the numba backend; the number changes the time and no bit of the result. By default all cores that
            this process may use, or ``OMP_NUM_THREADS``.

    Returns:
        Q ``(L, *spatial)``, float32 and contiguous; a tensor on the device of ``prob`` where that is a tensor.

    Raises:
        ValueError: the input is not as described; the message says what is wrong.
        CaseTooLargeError: the case needs more memory than is free (`pipeline.crf.estimate_memory`).

    Example:
        >>> import numpy as np
        >>> image = np.zeros((8, 8, 1), np.uint8)
        >>> image[:, 4:] = 200
        >>> foreground = np.where(image[..., 0] > 0, 0.7, 0.3)
        >>> foreground[3, 6] = 0.2  # a hole
        >>> q = mean_field(np.stack([1 - foreground, foreground]), image, spatial_weight=3, spatial_width=3,
        ...     bilateral_weight=10, bilateral_width=20, bilateral_intensity=13, iterations=5)
        >>> q.argmax(0)[3].tolist()
        [0, 0, 0, 0, 1, 1, 1, 1]
    """
    prob, image = _take_arrays(prob, image)
    check_shapes(prob, image)
    parameters = check_parameters(
        prob.ndim - 1,
        spatial_weight=spatial_weight,
        spatial_width=spatial_width,
        bilateral_weight=bilateral_weight,
        bilateral_width=bilateral_width,
        bilateral_intensity=bilateral_intensity,
        iterations=iterations,
        spacing=spacing,
    )
    chosen, workers = _choose(backend, prob), count_threads(threads)
    if chosen == "numba" or (chosen == "torch" and _lies_on_cpu(prob)):
        check_memory(prob.shape[1:], prob.shape[0], image.shape[-1], chosen)
    check_values(prob, image)
    return _infer(prob, image, parameters, chosen, workers)


def mean_field_batch(prob: Any, image: Any, *, threads: int | None = None, **options: Any) -> Any:
    """Treat a batch, each case on its own: images of a batch, or the slices of a volume in 2-D.

    Args:
        prob: ``(B, L, *spatial)``.
        image: ``(B, *spatial, C)``.
        threads: cases that are treated side by side on the CPU; a single case has all of them.
        **options: see `mean_field`.

    Returns:
        Q ``(B, L, *spatial)``.

    Raises:
        ValueError: the numbers of cases differ, or as in `mean_field`, with the number of the case.
    """
    prob, image = _take_arrays(prob, image)
    if prob.ndim < 3 or image.ndim != prob.ndim or len(prob) != len(image):
        raise ValueError(
            f"expected prob (B, L, *spatial) and image (B, *spatial, C), got shapes {tuple(prob.shape)} and "
            f"{tuple(image.shape)}"
        )

    workers = min(count_threads(threads), max(len(prob), 1))
    each = max(1, count_threads(threads) // workers)

    def treat(case: int) -> Any:
        try:
            return mean_field(prob[case], image[case], threads=each, **options)
        except ValueError as error:
            raise ValueError(f"case {case} of {len(prob)}: {error}") from error

    if workers == 1 or not _lies_on_cpu(prob):
        results = [treat(case) for case in range(len(prob))]
    else:
        with ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(treat, range(len(prob))))
    if not results:
        raise ValueError(f"nothing to do: prob has shape {tuple(prob.shape)}, an empty batch")
    if isinstance(prob, np.ndarray):
        return np.stack(results)
    import torch

    return torch.stack(results)


def count_threads(threads: int | None) -> int:
    """Return how many threads to use.

    Raises:
        ValueError: the number is not positive.
    """
    if threads is not None:
        if isinstance(threads, bool) or int(threads) != threads or threads < 1:
            raise ValueError(f"threads must be a whole number, 1 or more, got {threads!r}")
        return int(threads)
    stated = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(stated) if stated.isdigit() and int(stated) > 0 else cores


def _take_arrays(prob: Any, image: Any) -> tuple[Any, Any]:
    """Return both as arrays, or both as plain tensors on the device of ``prob``."""
    if hasattr(prob, "detach") or hasattr(image, "detach"):
        import torch

        first = torch.as_tensor(prob).detach()
        second = torch.as_tensor(image, device=first.device).detach()
        return tuple(getattr(item, "as_tensor", lambda item=item: item)() for item in (first, second))
    arrays = np.asarray(prob), np.asarray(image)
    for name, array in zip(("prob", "image"), arrays, strict=True):
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    return arrays


def _lies_on_cpu(array: Any) -> bool:
    return isinstance(array, np.ndarray) or array.device.type == "cpu"


def _choose(backend: str, prob: Any) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    on_cpu = _lies_on_cpu(prob)
    installed = importlib.util.find_spec("numba") is not None
    if backend == "auto":
        return "numba" if on_cpu and installed else "torch"
    if backend == "numba" and not installed:
        raise ValueError('backend "numba" needs the package numba: pip install numba, or give backend="torch"')
    if backend != "torch" and not on_cpu:
        raise ValueError(f'backend {backend!r} computes on the CPU and prob is on {prob.device}; give backend="torch"')
    return backend


def _infer(prob: Any, image: Any, parameters: Parameters, backend: str, threads: int) -> Any:
    if backend == "torch":
        return _infer_tensors(prob, image, parameters)
    arrays, picture = (
        item if isinstance(item, np.ndarray) else (item.double() if backend == "exact" else item.float()).numpy()
        for item in (prob, image)
    )
    result: Any
    if backend == "exact":
        from pipeline.crf import exact

        result = exact.infer(arrays, picture, parameters)
    else:
        from pipeline.crf import compiled

        result = compiled.infer(arrays.astype(np.float32, copy=False), picture, parameters, threads)
    if isinstance(prob, np.ndarray):
        return result
    import torch

    return torch.from_numpy(result)


def _infer_tensors(prob: Any, image: Any, parameters: Parameters) -> Any:
    import torch

    from pipeline.crf import tensors

    if isinstance(prob, np.ndarray):
        # Torch takes neither negative strides nor foreign byte orders.
        first, second = (torch.from_numpy(np.ascontiguousarray(item, np.float32)) for item in (prob, image))
    else:
        first, second = prob, image
    try:
        with torch.no_grad():
            result = tensors.infer(first, second, parameters)
    except torch.OutOfMemoryError as error:
        raise CaseTooLargeError(
            f"a dense CRF over {' x '.join(map(str, prob.shape[1:]))} points does not fit into the memory of "
            f"{first.device}: crop to the foreground, treat a volume slice by slice, or move the tensors to the CPU"
        ) from error
    return result.numpy() if isinstance(prob, np.ndarray) else result
