"""Tables of metrics per case, written atomically."""

import contextlib
import logging
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, cast

import ignite.distributed as idist
from ignite.engine import Engine
from monai.handlers import MetricsSaver

from pipeline.handlers.run.batch_cases import list_case_ids
from pipeline.parallel.agreement import exit_together

_LOGGER = logging.getLogger(__name__)
_FORMULA = ("=", "+", "-", "@")


class CaseMetricsSaver(MetricsSaver):
    """MONAI's ``MetricsSaver`` with ``case_id`` as the name of each row, and files that are renamed when complete.

    After every validation it replaces ``metrics.csv`` (one line per metric) and ``<metric>_raw.csv`` (one line per
    case). A case without id has the name of its image's file; of equal names, all but the first get a number.

    Args:
        save_dir: folder of the tables.
        metrics: names of the metrics in ``metrics.csv``, "*" for all.
        metric_details: names of the metrics that get a table of cases.
        batch_transform, summary_ops, save_rank, delimiter, output_type: see ``MetricsSaver``.
    """

    _told = False

    def _get_filenames(self, engine: Engine) -> None:
        if self.metric_details is None:
            return
        for item in cast(list[dict[str, Any]], engine.state.batch):
            self._filenames.append(_quote(self._name_case(item), self.deli))

    def _name_case(self, item: dict[str, Any]) -> str:
        if "case_id" in item:
            return str(item["case_id"])
        if not self._told:
            self._told = True
            _LOGGER.info("the cases have no case_id: %s names them by their image's files", self.save_dir)
        name = next(iter(list_case_ids(item)), "case")
        self._namesakes[name] += 1
        return name if self._namesakes[name] == 1 else f"{name}_{self._namesakes[name]}"

    def _started(self, engine: Engine) -> None:
        super()._started(engine)
        self._namesakes: Counter[str] = Counter()

    def __call__(self, engine: Engine) -> None:
        """Write the tables of the last validation; one of several processes collects all rows and writes."""
        final = Path(self.save_dir)
        place: contextlib.AbstractContextManager[str | None] = contextlib.nullcontext()
        with exit_together():
            if idist.get_rank() == self.save_rank:
                final.mkdir(parents=True, exist_ok=True)
                place = tempfile.TemporaryDirectory(dir=final, prefix=".metrics-")
        # In a separate block, because the processes exchange rows here before one of them writes.
        with exit_together(), place as folder:
            self.save_dir = folder or str(final)
            try:
                super().__call__(engine)
            finally:
                self.save_dir = str(final)
            for table in sorted(Path(folder).iterdir()) if folder else ():
                os.replace(table, final / table.name)


def _quote(name: str, delimiter: str) -> str:
    """Quote a name like the ``csv`` module; MONAI does not, so that a comma would shift the columns.

    A name that a spreadsheet would compute as a formula gets an apostrophe in front, which makes it a text there.
    """
    name = f"'{name}" if name.startswith(_FORMULA) else name
    if not any(character in name for character in (delimiter, '"', "\n", "\r")):
        return name
    return '"' + name.replace('"', '""') + '"'
