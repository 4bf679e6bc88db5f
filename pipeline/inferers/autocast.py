"""Mixed precision chosen by the hardware, as a wrapper around any MONAI inferer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from pipeline.flags import read_flag


def supports_bfloat16(device_type: str) -> bool:
    """Return whether the hardware of ``device_type`` ("cpu", "cuda") computes in bfloat16.

    Emulation does not count: it is slower than float32.
    """
    if device_type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        # PyTorch has only private functions for this; if they are missing, use float32.
        probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(probe() for probe in probes if probe is not None)
    return False


@dataclass(eq=False, repr=False)
class AutocastInferer(Inferer):
    """Run another inferer in bfloat16 mixed precision and channels-last layout; the result is float32.

    MONAI's ``amp=True`` works only on CUDA and uses float16, which needs a gradient scaler. bfloat16 has the range of
    float32, so it needs none, and recent CPUs support it. The loss is computed outside, in float32.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> inferer = AutocastInferer(SimpleInferer(), amp=True)
        >>> inferer(torch.ones(1, 1, 4, 4), torch.nn.Conv2d(1, 1, 1)).dtype
        torch.float32
    """

    inferer: Inferer  #: the inferer to run, e.g. ``SimpleInferer`` in training or ``SliceInferer`` in validation.
    amp: bool | Literal["auto"] = "auto"  #: "auto" (if the hardware has bfloat16), True or False
    channels_last: bool = True  #: lay out 2-D batches ``(B, C, H, W)`` channels last, which is faster with BatchNorm

    def __post_init__(self) -> None:
        self.amp = self.amp if self.amp == "auto" else read_flag(self.amp, "amp")

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return ``inferer(inputs, network)`` in float32; outside training with the meta data of ``inputs``.

        Inputs are ``(B, C, *spatial)``; the network may return a list of tensors, as deep supervision does in training.
        """
        device_type = inputs.device.type
        enabled = supports_bfloat16(device_type) if self.amp == "auto" else self.amp is True

        def run(batch: torch.Tensor, *more: Any, **options: Any) -> Any:
            plain = batch.as_subclass(torch.Tensor)  # without meta data, which every layer would copy
            if self.channels_last and plain.ndim == 4:
                plain = plain.contiguous(memory_format=torch.channels_last)
            return _to_float32(network(plain, *more, **options))

        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=enabled):
            result = self.inferer(inputs, run, *args, **kwargs)
        return _copy_meta(result, inputs)


def _copy_meta(result: Any, inputs: torch.Tensor) -> Any:
    """Give a prediction the image's meta data, which MONAI's ``Invertd`` needs and a loss does not."""
    if isinstance(inputs, MetaTensor) and type(result) is torch.Tensor and not result.requires_grad:
        return MetaTensor(result).copy_meta_from(inputs)
    return result


def _to_float32(output: Any) -> Any:
    if isinstance(output, list | tuple):
        return type(output)(_to_float32(item) for item in output)
    return output.float()
