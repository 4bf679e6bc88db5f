"""What came out for each case: sizes, time, the file of the mask."""

import csv
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from pipeline.atomic import write_atomically
from pipeline.prediction.case_search import Item, name_path
from pipeline.prediction.mask_sizes import count_labels, measure_voxel
from pipeline.transforms.items import list_written
from pipeline.transforms.post.case_doubt import DOUBT

#: Name of the table
SIZES = "sizes.csv"
_COLUMNS = ("case", "label", "name", "pixels", "area_mm2", "volume_ml", "seconds", "empty", "doubt", "mask")


@dataclass(frozen=True)
class CaseResult:
    """One predicted case."""

    case_id: str  #: its name
    counts: Mapping[int, int]  #: number of pixels or voxels by label
    area: float | None  #: mm² of one, where known
    volume: float | None  #: ml of one, where known
    seconds: float  #: from loading to saving
    mask: Path | None  #: the file, or the folder of the files of a stack
    doubt: float  #: from 0 (sure) to 1, see `pipeline.transforms.MeasureProbabilities`

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not any(self.counts.values())


@dataclass(eq=False, repr=False)
class CaseResults:
    """Note what comes out for each case while an evaluator runs."""

    results: list[CaseResult] = field(default_factory=list)  #: in the order of the cases

    def attach(self, engine: Engine, items: Sequence[Item]) -> None:
        """Watch a run.

        Args:
            engine: the evaluator.
            items: its cases, in their order.
        """
        waiting = iter(items)
        started = [0.0]

        def start() -> None:
            started[0] = time.perf_counter()

        def note() -> None:
            output: Any = engine.state.output
            outputs = output if isinstance(output, list | tuple) else [output]
            seconds = (time.perf_counter() - started[0]) / len(outputs)
            self.results += [_describe(item, found, seconds) for found, item in zip(outputs, waiting)]  # noqa: B905

        engine.add_event_handler(Events.GET_BATCH_STARTED, start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, note)

    def write(self, folder: Path, names: Mapping[int, str]) -> Path:
        """Write the table of sizes: a row per case and label.

        Args:
            folder: of the results.
            names: of the labels. Each has a row, found or not.

        Returns:
            The file.
        """
        path = folder / SIZES
        with write_atomically(path) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for result in self.results:
                writer.writerows(_make_rows(result, folder, names))
        return path


def _describe(item: Item, found: Mapping[str, Any], seconds: float) -> CaseResult:
    mask = found["pred"]
    area, volume = measure_voxel(mask, name_path(item))
    files = list_written(mask)
    target = files[0] if len(files) == 1 else Path(os.path.commonpath(files)) if files else None
    return CaseResult(str(item["case_id"]), count_labels(mask), area, volume, seconds, target, float(found[DOUBT]))


def _make_rows(result: CaseResult, folder: Path, names: Mapping[int, str]) -> list[list[Any]]:
    mask = "" if result.mask is None else Path(os.path.relpath(result.mask, folder)).as_posix()
    # Objects that were numbered have no names.
    numbered = any(label not in names for label in result.counts)
    labels = sorted({*result.counts, *({} if numbered else names)})
    rows = []
    for label in labels or [1]:
        count = result.counts.get(label, 0)
        sizes = ["" if size is None else f"{count * size:.6g}" for size in (result.area, result.volume)]
        name = "" if numbered else names.get(label, "")
        rest = [f"{result.seconds:.3f}", str(result.is_empty).lower(), f"{result.doubt:.4f}", mask]
        rows.append([result.case_id, label, name, count, *sizes, *rest])
    return rows
