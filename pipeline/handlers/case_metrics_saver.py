"""Tables of metrics, with case ids, that are never seen half written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.handlers import MetricsSaver

__all__ = ["CaseMetricsSaver"]


class CaseMetricsSaver(MetricsSaver):  # type: ignore[misc]
    """MONAI's ``MetricsSaver`` with the rows named by ``case_id`` and the files renamed into place when complete.

    Writes ``metrics.csv`` (one line a metric) and ``<metric>_raw.csv`` (one line a case) after every validation;
    the tables of the last validation stay.

    Args:
        save_dir: folder of the tables.
        metrics: names of the metrics in ``metrics.csv``, "*" for all.
        metric_details: names of the metrics that get a table by case.
        kwargs: passed on to ``MetricsSaver``.
    """

    def __init__(
        self,
        save_dir: str | Path,
        metrics: str | list[str] | None = "*",
        metric_details: str | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(str(save_dir), metrics=metrics, metric_details=metric_details, **kwargs)

    def _get_filenames(self, engine: Engine) -> None:
        if self.metric_details is not None:
            self._filenames.extend(str(item["case_id"]) for item in engine.state.batch)  # type: ignore[union-attr]

    def __call__(self, engine: Engine) -> None:
        """Write the tables of the validation that has just ended."""
        final = Path(self.save_dir)
        final.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=final, prefix=".metrics-") as folder:
            self.save_dir = folder
            try:
                super().__call__(engine)
            finally:
                self.save_dir = str(final)
            for table in sorted(Path(folder).iterdir()):
                os.replace(table, final / table.name)
