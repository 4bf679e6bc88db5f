"""Tables of calibration and doubt of an evaluation."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from pipeline.metrics.calibration import BINS, REGIONS, Calibration
from pipeline.parallel.agreement import collect
from pipeline.runs.reliability import ALL_METRICS, BAND_METRICS, CALIBRATION, DOUBT, write_reliability

_LOGGER = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class CalibrationSaver:
    """Write ``output_dir/calibration.json``, and make the calibration of each case a metric of the evaluation.

    The cases come from `pipeline.transforms.MeasureProbabilitiesd` in the post-processing. ``brier_band``,
    ``ece_band``, ``brier_all``, ``ece_all`` (by class) and ``doubt`` are then metrics like others, which
    `CaseMetricsSaver` writes; a case that has neither truth nor prediction of a class has no value in the band.
    Without such entries nothing is written.
    """

    output_dir: str | Path  #: folder of the run

    def attach(self, engine: Engine) -> None:
        """Watch an evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self) -> None:
        self._sum: Calibration | None = None
        self._rows: list[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]] = []

    def _collect(self, engine: Engine) -> None:
        outputs: Any = engine.state.output
        for output in outputs if isinstance(outputs, list) else [outputs]:
            found = output.get("calibration")
            if "doubt" not in output:
                continue
            scores = (None, None) if found is None else (found.brier(), found.error())
            self._rows.append((output["doubt"].double(), *scores))
            if found is not None:
                self._sum = found if self._sum is None else _add(self._sum, found)

    def _finish(self, engine: Engine) -> None:
        """Of several processes, each gets the metrics of all cases, in the order of the processes."""
        rows = [row for part in collect(self._rows) for row in part]
        sums = [part for part in collect(self._sum) if part is not None]
        if not rows:
            return
        _publish(engine, DOUBT, torch.stack([doubt for doubt, _, _ in rows]))
        if any(scores is None for _, scores, _ in rows):
            return
        for place, names in enumerate((BAND_METRICS, ALL_METRICS)):
            for name, column in zip(names, (1, 2), strict=True):
                _publish(engine, name, torch.stack([row[column][:, place] for row in rows]))  # type: ignore[index]
        if idist.get_rank() == 0:
            total = sums[0]
            for part in sums[1:]:
                total = _add(total, part)
            self._write(total, len(rows))

    def _write(self, total: Calibration, cases: int) -> None:
        path = Path(self.output_dir) / CALIBRATION
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_reliability(path, describe_tables(total), cases)
        except OSError as error:
            _LOGGER.warning("cannot write %s: %s", path, (error.strerror or str(error)).lower())


def describe_tables(total: Calibration) -> list[dict[str, Any]]:
    """Return the tables of ``calibration.json``."""
    scores = {
        "voxels": total.bins[..., 0].sum(-1),
        "brier": total.brier(),
        "ece": total.error(),
        "over_confidence": total.over_confidence(),
        "excess": total.excess(),
    }
    return [
        {
            "class": number + 1,
            "region": region,
            **{name: _finite(value[number, place]) for name, value in scores.items()},
            "voxels": int(scores["voxels"][number, place]),
            "bins": [
                {
                    "low": round(row / BINS, 6),
                    "high": round((row + 1) / BINS, 6),
                    "count": int(count),
                    "confidence": float(prob / count) if count else None,
                    "observed": float(truth / count) if count else None,
                }
                for row, (count, prob, truth) in enumerate(total.bins[number, place].tolist())
            ],
        }
        for number in range(len(total.bins))
        for place, region in enumerate(REGIONS)
    ]


def _add(first: Calibration, second: Calibration) -> Calibration:
    return Calibration(first.bins + second.bins, first.squares + second.squares)


def _finite(value: torch.Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _publish(engine: Engine, name: str, scores: torch.Tensor) -> None:
    """Add a metric by case (N, K): its mean over classes, then over cases."""
    state: Any = engine.state
    if not hasattr(state, "metric_details"):
        state.metric_details = {}
    state.metrics[name] = float(scores.nanmean(dim=1).nanmean())
    state.metric_details[name] = scores
