"""Mean-field inference in a fully connected CRF: checks, and the choice of the backend."""

import importlib.util
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from pipeline.crf.arguments import Parameters, check_parameters, check_shapes, check_values
from pipeline.crf.memory import CaseTooLargeError, check_memory

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
    """Sharpen probabilities by a fully connected CRF with Gaussian edge potentials; equations in `pipeline.crf`.

    Args:
        prob: probabilities ``(L, *spatial)`` of two labels or more, which sum to one; zeros count as 1e-5. NumPy array
            or tensor of any real type; computed in float32.
        image: ``(*spatial, C)``, of the same kind and grid, for example 0 to 255 as in the file.
        spatial_weight: w_s, 0 for no smoothness kernel.
        spatial_width: theta_s in voxels (or mm, see ``spacing``): one number, or one per axis in the array's order.
        bilateral_weight: w_b, 0 for no appearance kernel.
        bilateral_width: theta_b, as ``spatial_width``.
        bilateral_intensity: theta_I in units of the image.
        iterations: 5 to 10 are usual; 0 returns ``prob``.
        spacing: mm between voxels along each axis; widths are in mm then.
        backend: ``"numba"`` (CPU, compiled), ``"torch"`` (any device), ``"exact"`` (all pairs, at most 8192 points,
            result float64), or ``"auto"``: numba for data on the CPU if it is installed, else torch.
        threads: of the numba backend; the number changes no bit of the result. The default is ``OMP_NUM_THREADS``, or
            all cores that this process may use.

    Returns:
        Q ``(L, *spatial)``, float32 and contiguous; a tensor on the device of ``prob`` if that is a tensor.

    Raises:
        ValueError: the input is not as described; the message says what is wrong.
        CaseTooLargeError: the case needs more memory than is free (`pipeline.crf.estimate_memory`).
    """
    prob, image = _take_arrays(prob, image)
    check_shapes(prob, image)
    kernels = (spatial_weight, spatial_width, bilateral_weight, bilateral_width, bilateral_intensity)
    parameters = check_parameters(prob.ndim - 1, *kernels, iterations, spacing)
    chosen, workers = _choose(backend, prob), count_threads(threads)
    if chosen == "numba" or (chosen == "torch" and _lies_on_cpu(prob)):
        check_memory(prob.shape[1:], prob.shape[0], image.shape[-1], chosen)
    check_values(prob, image)
    return _infer(prob, image, parameters, chosen, workers)


def mean_field_batch(prob: Any, image: Any, *, threads: int | None = None, **options: Any) -> Any:
    """Sharpen each case of a batch separately: images, or the slices of a volume in 2-D.

    Args:
        prob: ``(B, L, *spatial)``.
        image: ``(B, *spatial, C)``.
        threads: cases that are computed in parallel on the CPU; a single case gets all threads.
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
        from pipeline.crf import exact_inference

        result = exact_inference.infer(arrays, picture, parameters)
    else:
        from pipeline.crf import numba_inference

        result = numba_inference.infer(arrays.astype(np.float32, copy=False), picture, parameters, threads)
    if isinstance(prob, np.ndarray):
        return result
    import torch

    return torch.from_numpy(result)


def _infer_tensors(prob: Any, image: Any, parameters: Parameters) -> Any:
    import torch

    from pipeline.crf import torch_inference

    if isinstance(prob, np.ndarray):
        # Torch accepts neither negative strides nor foreign byte orders.
        first, second = (torch.from_numpy(np.ascontiguousarray(item, np.float32)) for item in (prob, image))
    else:
        first, second = prob, image
    try:
        with torch.no_grad():
            result = torch_inference.infer(first, second, parameters)
    except torch.OutOfMemoryError as error:
        raise CaseTooLargeError(
            f"a dense CRF over {' x '.join(map(str, prob.shape[1:]))} points does not fit into the memory of "
            f"{first.device}: crop to the foreground, process a volume slice by slice, or move the tensors to the CPU"
        ) from error
    return result.numpy() if isinstance(prob, np.ndarray) else result
