"""Write pictures of validation cases to TensorBoard."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from pipeline.handlers.logs.case_pictures import check_channels, find_new_cases, take_picture
from pipeline.pictures.figures import draw_panel


@dataclass(eq=False, repr=False)
class SegmentationFigures:
    """Draw image, truth and prediction of validation cases in TensorBoard, one panel per case and epoch.

    Of a volume, the slice with the largest truth is shown; without truth, the one with the largest prediction. The tag
    is ``cases/<case_id>``, so TensorBoard's slider shows a case over the epochs.

    Raises:
        ValueError: both ``log_dir`` and ``summary_writer`` are missing, or ``channels`` has not one or three entries.
    """

    log_dir: str | Path | None = None  #: folder of the TensorBoard events; ignored if ``summary_writer`` is given
    summary_writer: Any = None  #: a writer to share with MONAI's TensorBoard handlers
    max_cases: int = 8  #: number of cases, the first of each validation
    interval: int = 1  #: epochs between drawings
    #: one channel (shown as grey) or three (red, green, blue) of the image; by default all of three channels, else
    #: the first.
    channels: Sequence[int] | None = None
    #: called without arguments, returns the step; by default the evaluator's epoch, which
    #: `monai.handlers.ValidationHandler` sets to the trainer's.
    global_epoch_transform: Callable[[], int] | None = None

    def __post_init__(self) -> None:
        if self.log_dir is None and self.summary_writer is None:
            raise ValueError("one of log_dir and summary_writer is needed")
        self.channels = check_channels(self.channels)
        self._drawn: set[str] = set()

    def attach(self, engine: Engine) -> None:
        """Draw in every validation of ``engine``, the evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._drawn.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._flush)

    def __call__(self, engine: Engine) -> None:
        """Draw the cases of the last batch."""
        step = self.global_epoch_transform() if self.global_epoch_transform else engine.state.epoch
        if step % self.interval:
            return
        for case_id, output in find_new_cases(engine, self._drawn, self.max_cases):
            self._drawn.add(case_id)
            panel = draw_case(output["image"], output["label"], output["pred"], self.channels)
            self._open().add_image(f"cases/{case_id}", panel, step, dataformats="HWC")

    def _open(self) -> Any:
        if self.summary_writer is None:  # not in __init__: parsing a config must not write files
            from torch.utils.tensorboard import SummaryWriter

            self.summary_writer = SummaryWriter(str(self.log_dir))
            weakref.finalize(self, self.summary_writer.close)  # its thread would last as long as the process
        return self.summary_writer

    def _flush(self) -> None:
        if self.summary_writer is not None:
            self.summary_writer.flush()


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
