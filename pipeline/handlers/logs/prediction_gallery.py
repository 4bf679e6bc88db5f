"""Draw a figure of predictions: image, truth, prediction and overlay of a few cases."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from pipeline.handlers.logs.case_pictures import check_channels, find_new_cases, take_picture
from pipeline.pictures.gallery import GalleryRow, draw_gallery
from pipeline.pictures.image_file import write_picture

_LOGGER = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class PredictionGallery:
    """Draw the first cases of a validation into one figure, as PNG and in TensorBoard (tag ``predictions``).

    In ``train#handlers``, after `TrainingRun` and with ``evaluator``, the figure is replaced after each validation that
    is the best so far, so it shows predictions of the weights in ``model.pt``. In ``validate#handlers`` of an
    evaluation it is drawn at the end and ``evaluator`` stays None.

    Raises:
        ValueError: ``max_cases`` is below 1, or ``channels`` has neither one nor three entries.
    """

    output_dir: str | Path  #: folder of the figure
    evaluator: Engine | None = None  #: the engine that `monai.handlers.ValidationHandler` runs, in a training
    summary_writer: Any = None  #: a TensorBoard writer; None writes only the file
    max_cases: int = 6  #: number of cases in the figure
    filename: str = "predictions.png"  #: name of the figure
    #: one channel (shown as grey) or three (red, green, blue) of the image; by default the colours of its file if
    #: that is a picture, else all of three channels, else the first.
    channels: Sequence[int] | None = None
    width: int = 256  #: width of a column in pixels

    def __post_init__(self) -> None:
        if self.max_cases < 1:
            raise ValueError(f"max_cases must be at least 1, got {self.max_cases}")
        self.channels = check_channels(self.channels)
        self.path = Path(self.output_dir) / self.filename
        self._rows: dict[str, GalleryRow] = {}

    def attach(self, engine: Engine) -> None:
        """Draw the validations of the evaluator, or of ``engine`` if none was given."""
        evaluator = self.evaluator or engine
        evaluator.add_event_handler(Events.EPOCH_STARTED, lambda: self._rows.clear())
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        evaluator.add_event_handler(Events.COMPLETED, self._finish)

    def _collect(self, engine: Engine) -> None:
        for name, output in find_new_cases(engine, self._rows, self.max_cases):
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
