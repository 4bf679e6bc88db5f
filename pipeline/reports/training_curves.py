"""Curves of a training from its TensorBoard events, which may still be written."""

import logging
from pathlib import Path
from typing import Any

from pipeline.issues import InputError
from pipeline.reports.plots import draw_curve
from pipeline.runs.run_folder import Run

_PATTERN = "*tfevents*"


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return step and value of each scalar by tag; empty without events. An unfinished last record is left out.

    Raises:
        InputError: a file of events may not be read.
    """
    paths = sorted(folder.glob(_PATTERN))
    for path in paths:
        try:
            path.open("rb").close()
        except OSError as error:
            raise InputError(
                f"{path}: {(error.strerror or str(error)).lower()}, check its owner and `chmod u+r`"
            ) from None
    if not paths:
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    curves: dict[str, list[tuple[int, float]]] = {}
    for path in paths:  # each run that was resumed adds one
        events = EventAccumulator(str(path), size_guidance={"scalars": 0, "images": 1, "tensors": 1})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            curves.setdefault(tag, []).extend((event.step, event.value) for event in events.Scalars(tag))
    return {tag: sorted(dict(points).items()) for tag, points in sorted(curves.items())}


def draw_curves(run: Run) -> list[dict[str, Any]]:
    """Return tag, points and plot of each curve; the best epoch is marked where the steps are epochs.

    Raises:
        InputError: as `read_curves`.
    """
    drawn = []
    for tag, points in read_curves(run.folder).items():
        steps, values = [step for step, _ in points], [value for _, value in points]
        epochs = run.record.get("max_epochs")
        in_epochs = isinstance(epochs, int) and max(steps) <= epochs
        mark = run.best_epoch if in_epochs else None
        entry = {"tag": tag, "n": len(points), "last_step": steps[-1], "last": values[-1], "marked": mark is not None}
        drawn.append({**entry, "_plot": draw_curve(steps, values, mark)})
    return drawn
