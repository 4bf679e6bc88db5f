"""Write pictures of validation cases to TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from pipeline.handlers.logs.case_pictures import take_picture
from pipeline.handlers.training.non_finite_guard import list_case_ids
from pipeline.pictures.figures import draw_panel


class SegmentationFigures:
    """Draw image, truth and prediction of validation cases in TensorBoard, one panel per case and epoch.

    Of a volume, the slice with the largest truth is shown; without truth, the one with the largest prediction. The tag
    is ``cases/<case_id>``, so TensorBoard's slider shows a case over the epochs.

    Args:
        log_dir: folder of the TensorBoard events; ignored if ``summary_writer`` is given.
        summary_writer: a writer to share with MONAI's TensorBoard handlers.
        max_cases: number of cases, the first of each validation.
        interval: epochs between drawings.
        channels: one channel (shown as grey) or three (red, green, blue) of the image; by default all of three
            channels, else the first.
        global_epoch_transform: called without arguments, returns the step; by default the evaluator's epoch, which
            `monai.handlers.ValidationHandler` sets to the trainer's.

    Raises:
        ValueError: both ``log_dir`` and ``summary_writer`` are missing, or ``channels`` has not one or three entries.
    """

    def __init__(
        self,
        log_dir: str | Path | None = None,
        summary_writer: Any = None,
        max_cases: int = 8,
        interval: int = 1,
        channels: Sequence[int] | None = None,
        global_epoch_transform: Callable[[], int] | None = None,
    ) -> None:
        if log_dir is None and summary_writer is None:
            raise ValueError("one of log_dir and summary_writer is needed")
        if channels is not None and len(channels) not in (1, 3):
            raise ValueError(f"channels must name one or three channels, got {list(channels)}")
        self.log_dir = log_dir
        self.max_cases = max_cases
        self.interval = interval
        self.channels = None if channels is None else list(channels)
        self.global_epoch_transform = global_epoch_transform
        self._writer = summary_writer
        self._drawn: set[str] = set()

    def attach(self, engine: Engine) -> None:
        """Draw in every validation of ``engine``, the evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._flush)

    def __call__(self, engine: Engine) -> None:
        """Draw the cases of the last batch."""
        step = self.global_epoch_transform() if self.global_epoch_transform else engine.state.epoch
        if idist.get_rank() != 0 or step % self.interval:
            return
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            case_id = next(iter(list_case_ids(item)), f"case_{len(self._drawn)}")
            if case_id in self._drawn or len(self._drawn) >= self.max_cases:
                continue
            self._drawn.add(case_id)
            panel = draw_case(output["image"], output["label"], output["pred"], self.channels)
            self._open().add_image(f"cases/{case_id}", panel, step, dataformats="HWC")

    def _begin(self) -> None:
        self._drawn.clear()

    def _open(self) -> Any:
        if self._writer is None:  # not in __init__: parsing a config must not write files
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.log_dir))
        return self._writer

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()


def draw_case(
    image: torch.Tensor, label: torch.Tensor, pred: torch.Tensor, channels: Sequence[int] | None = None
) -> NDArray[np.uint8]:
    """Draw one case; of a volume, its most informative slice.

    Args:
        image: (C, H, W) or (C, H, W, D); its grid may differ from that of the masks, see
            `pipeline.handlers.logs.case_pictures.take_picture`.
        label: (1, H, W[, D]) class indices or instances, or (K, H, W[, D]) one-hot.
        pred: as ``label``.
        channels: see `SegmentationFigures`.

    Returns:
        (H, 3 W + 8, 3), the longer of H and W at most 512.

    Example:
        >>> truth = torch.zeros(1, 4, 4, 3)
        >>> truth[:, 1:3, 1:3, 2] = 1
        >>> draw_case(torch.rand(3, 4, 4, 3), truth, truth).shape
        (4, 20, 3)
    """
    picture = take_picture(image, label, pred, channels)
    truth = picture.pred if picture.truth is None else picture.truth
    return draw_panel(picture.image, truth, picture.pred)
