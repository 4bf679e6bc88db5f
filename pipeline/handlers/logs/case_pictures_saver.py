"""Keep pictures of the best, median and worst cases of an evaluation, for its page."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events

from pipeline.handlers.logs.case_pictures import check_channels, find_new_cases
from pipeline.handlers.logs.slice_views import take_slices
from pipeline.handlers.run.exits import on_exception
from pipeline.runs.case_slices import FOLDER, choose_ranks, write_slices
from pipeline.runs.metric_names import is_small_good

_LOGGER = logging.getLogger(__name__)
_PREFIX = f".{FOLDER}-"


@dataclass(eq=False, repr=False)
class CasePicturesSaver:
    """Write image, truth and prediction of the best, median and worst cases into ``output_dir/case_pictures``.

    `pipeline report` draws them. They are ranked by the key metric; without a value per case the first cases are kept.
    What the folder held before is replaced. Of several processes, the first one writes its own cases. They are pictures
    of patients: remove the folder before a run's folder is shared.

    Raises:
        ValueError: ``each`` is below 1, or ``channels`` has neither one nor three entries.
    """

    output_dir: str | Path  #: folder of the run
    each: int = 2  #: number of best, of median and of worst cases
    channels: Sequence[int] | None = None  #: one or three channels of the image, see `PredictionGallery`
    is_instances: bool = False  #: whether a label is an object

    def __post_init__(self) -> None:
        if self.each < 1:
            raise ValueError(f"each must be at least 1, got {self.each}")
        self.channels = check_channels(self.channels)
        self._place: Path | None = None
        self._files: dict[str, Path | None] = {}  # None: not drawn

    def attach(self, engine: Engine) -> None:
        """Watch an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        on_exception(engine, lambda engine, error: self._clear())

    def _start(self) -> None:
        self._clear()
        if idist.get_rank() != 0:
            return
        for left in Path(self.output_dir).glob(f"{_PREFIX}*"):  # of a run that was killed
            _remove(left)

    def _collect(self, engine: Engine) -> None:
        for name, output in find_new_cases(engine, self._files, np.iinfo(np.int64).max):
            self._files[name] = None
            try:
                self._files[name] = self._write(name, output)
            except (OSError, ValueError) as error:  # a missing picture must not stop an evaluation
                _LOGGER.warning("no picture of case %s in %s: %s", name, self.output_dir, str(error).lower())

    def _write(self, name: str, output: Any) -> Path:
        if self._place is None:
            Path(self.output_dir).mkdir(parents=True, exist_ok=True)
            self._place = Path(tempfile.mkdtemp(dir=self.output_dir, prefix=_PREFIX))
        case = take_slices(
            name, output["image"], output.get("label"), output["pred"], self.channels, is_instances=self.is_instances
        )
        path = self._place / f"{len(self._files):05d}.npz"
        write_slices(case, path)
        return path

    def _finish(self, engine: Engine) -> None:
        """Keep the chosen cases, under the final name."""
        if idist.get_rank() != 0:
            return
        files = list(self._files.values())
        kept = {files[place] for place in self._choose(engine)}
        for path in files:
            if path is not None and path not in kept:
                path.unlink(missing_ok=True)
        final = Path(self.output_dir) / FOLDER
        try:
            _remove(final)
            if self._place is not None:
                self._place.chmod(0o777 & ~_read_mask())
                os.replace(self._place, final)
                self._place = None
        except OSError as error:
            _LOGGER.warning("cannot write %s: %s", final, (error.strerror or str(error)).lower())
        self._clear()

    def _choose(self, engine: Engine) -> list[int]:
        state: Any = engine.state
        name = getattr(state, "key_metric_name", None)
        details = getattr(state, "metric_details", {}).get(name)
        count = len(self._files)
        first = list(range(min(3 * self.each, count)))
        if not isinstance(details, torch.Tensor | np.ndarray) or len(details) < count or not count:
            return first
        if idist.get_world_size() == 1 and len(details) != count:
            return first
        # Of several processes the rows of the first one, whose cases these are, come first.
        scores = torch.as_tensor(details)[:count].detach().cpu().double().reshape(count, -1).nanmean(dim=1)
        places = [place for place in range(count) if torch.isfinite(scores[place])]
        ranked = sorted(places, key=lambda place: float(scores[place]), reverse=not is_small_good(str(name)))
        return [ranked[rank] for rank in choose_ranks(len(ranked), self.each)] or first

    def _clear(self) -> None:
        if self._place is not None:
            _remove(self._place)
        self._place, self._files = None, {}


def _remove(folder: Path) -> None:
    """Remove a folder of pictures; what others put into it stays."""
    with contextlib.suppress(OSError):
        for path in [*folder.glob("*.npz"), *folder.glob(".*.npz.*.tmp")]:
            path.unlink()
        folder.rmdir()


def _read_mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
