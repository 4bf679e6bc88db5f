"""Tables of metrics per case and of their statistics, written atomically."""

import contextlib
import fnmatch
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.handlers import MetricsSaver

from pipeline.handlers.logs.metric_functions import count_empty, find_empty, find_metric_functions, find_policy
from pipeline.handlers.run.batch_cases import list_case_ids
from pipeline.parallel.agreement import collect, exit_together
from pipeline.runs.description import Summary, summarize
from pipeline.runs.metric_names import find_unit, is_pooled
from pipeline.runs.tables import METRICS, RAW, add_columns, is_mean, protect, write_metrics

_LOGGER = logging.getLogger(__name__)


class CaseMetricsSaver(MetricsSaver):
    """MONAI's ``MetricsSaver`` with case ids, subjects and statistics, and files that are renamed when complete.

    It replaces ``metrics.csv`` (one line per metric, see `pipeline.runs.tables`) and ``<metric>_raw.csv`` (one line per
    case) at the end of an evaluation. In a training with `TrainingCheckpoint` it does so only after the validation
    whose weights become ``model.pt``, so that the tables are its scores; as long as there is no such validation, the
    tables are of the last one. A case without id has the name of its image's file; of equal names, all but the first
    get a number.

    Args:
        save_dir: folder of the tables.
        metrics: names of the metrics in ``metrics.csv``, "*" for all.
        metric_details: names of the metrics that get a table of cases, or patterns such as ``dice_*``.
        batch_transform, summary_ops, save_rank, delimiter, output_type: see ``MetricsSaver``.
    """

    _told = False

    def attach(self, engine: Engine) -> None:
        """Watch every run of ``engine``, an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._started)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._get_filenames)

    def _started(self, engine: Engine) -> None:
        super()._started(engine)
        self._namesakes: Counter[str] = Counter()
        self._subjects: list[str] = []
        self._empty = torch.zeros(2, dtype=torch.int64)
        if not engine.has_event_handler(self, Events.COMPLETED):
            # Only now, so that it comes after `TrainingCheckpoint`, which is attached later than the evaluator's own.
            engine.add_event_handler(Events.COMPLETED, self)

    def _get_filenames(self, engine: Engine) -> None:
        self._empty += find_empty(engine.state.output)
        for item in cast(list[dict[str, Any]], engine.state.batch):
            self._filenames.append(_quote(self._name_case(item), self.deli))
            self._subjects.append(str(item.get("subject") or ""))

    def _name_case(self, item: dict[str, Any]) -> str:
        if "case_id" in item:
            return str(item["case_id"])
        if not self._told:
            self._told = True
            _LOGGER.info("the cases have no case_id: %s names them by their image's files", self.save_dir)
        name = next(iter(list_case_ids(item)), "case")
        self._namesakes[name] += 1
        return name if self._namesakes[name] == 1 else f"{name}_{self._namesakes[name]}"

    def __call__(self, engine: Engine) -> None:
        """Write the tables of this validation; one of several processes collects all rows and writes."""
        state: Any = engine.state
        if not getattr(state, "is_best", True) and state.best_metric_epoch != -1:
            return
        final = Path(self.save_dir)
        place: contextlib.AbstractContextManager[str | None] = contextlib.nullcontext()
        with exit_together():
            if idist.get_rank() == self.save_rank:
                final.mkdir(parents=True, exist_ok=True)
                place = tempfile.TemporaryDirectory(dir=final, prefix=".metrics-")
        # In a separate block, because the processes exchange rows here before one of them writes.
        with exit_together(), place as folder:
            self.save_dir = folder or str(final)
            patterns, self.metric_details = self.metric_details, self._expand(getattr(state, "metric_details", {}))
            subjects = [subject for part in collect(self._subjects) for subject in part]
            empty = torch.as_tensor(idist.all_reduce(self._empty.to(idist.device()))).tolist()
            try:
                super().__call__(engine)
            finally:
                self.save_dir, self.metric_details = str(final), patterns
            if folder:
                self._complete(Path(folder), engine, subjects, empty)
                for table in sorted(Path(folder).iterdir()):
                    os.replace(table, final / table.name)

    def _expand(self, details: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names that the patterns mean; a name that no metric has stays, for MONAI's warning."""
        names = []
        for pattern in self.metric_details or ():
            names += fnmatch.filter(details, pattern) or [pattern]
        return tuple(dict.fromkeys(names))

    def _complete(self, folder: Path, engine: Engine, subjects: list[str], empty: list[int]) -> None:
        """Add subjects, units and statistics to what MONAI has written."""
        state: Any = engine.state
        names = list(state.metrics)
        for path in folder.glob(f"*{RAW}"):
            add_columns(path, subjects, find_unit(path.name.removesuffix(RAW), names), self.deli)
        path = folder / METRICS
        if path.exists():
            values = {name: value for name, value in state.metrics.items() if {name, "*"} & set(self.metrics or ())}
            epoch = state.epoch if hasattr(state, "is_best") else None
            write_metrics(path, values, self._summarize(engine, subjects, empty), delimiter=self.deli, epoch=epoch)

    def _summarize(self, engine: Engine, subjects: list[str], empty: list[int]) -> dict[str, Summary]:
        state: Any = engine.state
        functions = find_metric_functions(engine)
        people = {str(place): subject for place, subject in enumerate(subjects)}
        summaries = {}
        for name, value in state.metrics.items():
            scores = _average_classes(getattr(state, "metric_details", {}).get(name))
            if is_pooled(name) or not isinstance(value, int | float) or len(scores) != len(people):
                continue
            if not np.isfinite(scores).any():
                continue
            n_empty, n_missed = count_empty(functions.get(name), empty)
            summary = replace(
                summarize(name, dict(zip(people, scores, strict=True)), people),
                unit=find_unit(name, state.metrics),
                empty_policy=find_policy(functions.get(name)),
                n_empty=n_empty,
                n_missed=n_missed,
            )
            if is_mean(summary, float(value)):
                summaries[name] = summary
        return summaries


def _average_classes(details: Any) -> list[float]:
    """Return the mean over classes of the scores (N, K) or (N,) of each case."""
    if not isinstance(details, torch.Tensor | np.ndarray) or np.ndim(details) not in (1, 2):
        return []
    scores = torch.as_tensor(details).detach().cpu().double().reshape(len(details), -1)
    return [float(score) for score in scores.nanmean(dim=1)]


def _quote(name: str, delimiter: str) -> str:
    """Quote a name like the ``csv`` module; MONAI does not, so that a comma would shift the columns."""
    name = protect(name)
    if not any(character in name for character in (delimiter, '"', "\n", "\r")):
        return name
    return '"' + name.replace('"', '""') + '"'
