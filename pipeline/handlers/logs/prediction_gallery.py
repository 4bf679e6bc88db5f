"""Draw a figure of predictions: image, truth, prediction and overlay of a few cases."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from pipeline.handlers.logs.case_pictures import take_picture
from pipeline.handlers.training.non_finite_guard import list_case_ids
from pipeline.pictures.gallery import GalleryRow, draw_gallery
from pipeline.pictures.image_file import write_picture

__all__ = ["PredictionGallery"]

_LOGGER = logging.getLogger(__name__)


class PredictionGallery:
    """Draw the first cases of a validation into one figure, as PNG and in TensorBoard (tag ``predictions``).

    In ``train#handlers``, after `TrainingRun` and with ``evaluator``, the figure is replaced after each validation that
    is the best so far, so it shows predictions of the weights in ``model.pt``. In ``validate#handlers`` of an
    evaluation it is drawn at the end and ``evaluator`` stays None.

    Args:
        output_dir: folder of the figure.
        evaluator: the engine that `monai.handlers.ValidationHandler` runs, in a training.
        summary_writer: a TensorBoard writer; None writes only the file.
        max_cases: number of cases in the figure.
        filename: name of the figure.
        channels: one channel (shown as grey) or three (red, green, blue) of the image; by default the colours of its
            file if that is a picture, else all of three channels, else the first.
        width: width of a column in pixels.

    Raises:
        ValueError: ``max_cases`` is below 1, or ``channels`` has neither one nor three entries.
    """

    def __init__(
        self,
        output_dir: str | Path,
        evaluator: Engine | None = None,
        summary_writer: Any = None,
        max_cases: int = 6,
        filename: str = "predictions.png",
        channels: Sequence[int] | None = None,
        width: int = 256,
    ) -> None:
        if max_cases < 1:
            raise ValueError(f"max_cases must be at least 1, got {max_cases}")
        if channels is not None and len(channels) not in (1, 3):
            raise ValueError(f"channels must name one or three channels, got {list(channels)}")
        self.path = Path(output_dir) / filename
        self.evaluator = evaluator
        self.summary_writer = summary_writer
        self.max_cases = max_cases
        self.channels = None if channels is None else list(channels)
        self.width = width
        self._rows: dict[str, GalleryRow] = {}

    def attach(self, engine: Engine) -> None:
        """Draw the validations of the evaluator, or of ``engine`` if none was given."""
        evaluator = self.evaluator or engine
        evaluator.add_event_handler(Events.EPOCH_STARTED, self._begin)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        evaluator.add_event_handler(Events.COMPLETED, self._finish)

    def _begin(self) -> None:
        self._rows.clear()

    def _collect(self, engine: Engine) -> None:
        if idist.get_rank() != 0 or len(self._rows) >= self.max_cases:
            return
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            name = next(iter(list_case_ids(item)), f"case_{len(self._rows)}")
            if name not in self._rows and len(self._rows) < self.max_cases:
                case = take_picture(output["image"], output.get("label"), output["pred"], self.channels)
                self._rows[name] = GalleryRow(name, case.image, case.pred, case.truth)

    def _finish(self, engine: Engine) -> None:
        state: Any = engine.state
        if not self._rows or (self.evaluator is not None and state.best_metric_epoch != state.epoch):
            return
        figure = draw_gallery(list(self._rows.values()), self.width)
        try:
            write_picture(figure, self.path)
        except OSError as error:  # a missing figure must not stop a training
            _LOGGER.warning("cannot write %s: %s", self.path, (error.strerror or str(error)).lower())
        if self.summary_writer is not None:
            self.summary_writer.add_image("predictions", figure, state.epoch, dataformats="HWC")
            self.summary_writer.flush()
