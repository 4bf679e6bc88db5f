"""Training with several processes: those started by torchrun for the configs ``multi_gpu_train.json``, and a loader's.

MONAI and ignite have the collectives, the samplers and the gathering of metrics. This package adds a start that fits
the device, gradients through gathered batches, runs whose processes end together, and as many workers as are useful.
"""

from pipeline.parallel.agreement import agree_on, any_process, collect, exit_together
from pipeline.parallel.collectives import gather_batch
from pipeline.parallel.launch import divide_batch, find_device, is_main, start, stop
from pipeline.parallel.samplers import ValidationSampler
from pipeline.parallel.workers import FittedDataLoader, fit_workers
from pipeline.parallel.wrapped import synchronise_batch_norm, unwrap_network, wrap_network
from pipeline.parallel.writer import open_summary_writer

__all__ = [
    "FittedDataLoader",
    "ValidationSampler",
    "agree_on",
    "any_process",
    "collect",
    "divide_batch",
    "exit_together",
    "find_device",
    "fit_workers",
    "gather_batch",
    "is_main",
    "open_summary_writer",
    "start",
    "stop",
    "synchronise_batch_norm",
    "unwrap_network",
    "wrap_network",
]
