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


def trains_faster_channels_last(network: Callable[..., Any], device_type: str) -> bool:
    """Return whether a whole training step of a 2-D network is faster with channels last.

    Not on a CPU with AVX2 but without AVX-512: there oneDNN takes 2.3 times as long for the gradients of weights in
    this layout, and a step 1.04 to 1.32 times as long (``benchmarks/weight_layout.py``). Networks with depthwise
    convolutions, whose work is mostly in convolutions of 1 x 1, still gain (1.11 times with EfficientNet-Lite0).
    Predictions are faster with channels last on every CPU that was measured.

    Args:
        network: a module, or any other callable, which is taken for a network without depthwise convolutions.
        device_type: "cpu" or "cuda".
    """
    if device_type != "cpu" or torch.backends.cpu.get_cpu_capability() != "AVX2":
        return True
    modules = network.modules() if isinstance(network, torch.nn.Module) else ()
    return any(isinstance(module, torch.nn.Conv2d) and module.groups > 1 for module in modules)


@dataclass(eq=False, repr=False)
class AutocastInferer(Inferer):
    """Run another inferer in bfloat16 mixed precision and channels-last layout where they pay; the result is float32.

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
    #: lay out 2-D batches ``(B, C, H, W)`` channels last: "auto" (where it is faster), True or False
    channels_last: bool | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        self.amp = self.amp if self.amp == "auto" else read_flag(self.amp, "amp")
        if self.channels_last != "auto":
            self.channels_last = read_flag(self.channels_last, "channels_last")

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return ``inferer(inputs, network)`` in float32; outside training with the meta data of ``inputs``.

        Inputs are ``(B, C, *spatial)``; the network may return a list of tensors, as deep supervision does in training.
        """
        device_type = inputs.device.type
        enabled = supports_bfloat16(device_type) if self.amp == "auto" else self.amp is True
        channels_last = self.channels_last
        if channels_last == "auto":
            channels_last = not torch.is_grad_enabled() or trains_faster_channels_last(network, device_type)

        def run(batch: torch.Tensor, *more: Any, **options: Any) -> Any:
            plain = batch.as_subclass(torch.Tensor)  # without meta data, which every layer would copy
            if channels_last and plain.ndim == 4:
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
