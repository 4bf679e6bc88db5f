"""Predict all cases with the bundle's evaluator, and leave out those that fail if the user wants so."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ignite.engine import Events

from pipeline.atomic import is_disk_full
from pipeline.bundle.config_failures import be_quiet
from pipeline.datasets.output_space import require_space
from pipeline.handlers.run.exits import find_line, keep_one_line
from pipeline.issues import InputError
from pipeline.prediction.case_results import SIZES, CaseResults
from pipeline.prediction.case_search import Item, find_cases, name_path
from pipeline.prediction.class_names import read_class_names
from pipeline.prediction.inference_config import CASES, open_inference, require_weights
from pipeline.prediction.prediction_options import PredictionOptions
from pipeline.prediction.prediction_progress import PredictionProgress


@dataclass
class Prediction:
    """What was predicted and what was left out."""

    output_dir: Path  #: folder of the results
    predicted: int = 0  #: number of cases
    empty: list[str] = field(default_factory=list)  #: ids of the cases with an empty mask
    doubts: dict[str, float] = field(default_factory=dict)  #: how unsure the network is of each case, from 0 to 1
    seconds: float = 0.0  #: for all cases
    refused: dict[str, str] = field(default_factory=dict)  #: why each other input was left out, by its path
    sizes: Path | None = None  #: the table

    def refuse(self, path: str, reason: str) -> None:
        """Note that an input is left out; a reason that does not name it gets its path."""
        named = path in reason or os.path.basename(path) in reason
        self.refused[path] = reason if named else f"{path}: {reason}"


def predict(options: PredictionOptions) -> Prediction:
    """Predict all inputs.

    Args:
        options: what is asked for.

    Returns:
        What was done; with ``keep_going`` also what was left out.

    Raises:
        InputError: something is wrong, and nothing or not all was predicted; one line.
    """
    require_space(options.output_dir / SIZES, 0)
    prediction = Prediction(options.output_dir)
    with _explain():
        workflow = open_inference(options)
        with be_quiet():
            workflow.initialize()
        require_weights(workflow.parser, options.bundle)
        items = find_cases(workflow.parser, options, prediction.refuse if options.keep_going else None)
    if not items:
        reasons = list(prediction.refused.values()) or ["there is no image among the inputs"]
        raise InputError(f"nothing was predicted: {reasons[0]}{_count_more(reasons)}")
    run = _Run(workflow, prediction, PredictionProgress(len(items)))
    try:
        with _explain():
            run.predict(items, keep_going=options.keep_going)
    finally:
        run.progress.close()
        if run.results.results:
            prediction.sizes = run.results.write(options.output_dir, read_class_names(options.bundle))
    prediction.predicted = len(run.results.results)
    prediction.empty = [result.case_id for result in run.results.results if result.is_empty]
    prediction.doubts = {result.case_id: result.doubt for result in run.results.results}
    prediction.seconds = sum(result.seconds for result in run.results.results)
    return prediction


@dataclass
class _Run:
    workflow: Any
    prediction: Prediction
    progress: PredictionProgress
    results: CaseResults = field(default_factory=CaseResults)

    def predict(self, items: Sequence[Item], *, keep_going: bool) -> None:
        """Run the evaluator; where a case fails, run it again on the cases after that one."""
        waiting = list(items)
        while waiting:
            done, began = len(self.results.results), [False]
            try:
                self._run(waiting, began)
                return
            except Exception as error:
                line = find_line(error)
                if not keep_going or not began[0] or line is None or is_disk_full(error):
                    raise
                waiting = waiting[len(self.results.results) - done :]
                self.prediction.refuse(name_path(waiting.pop(0)), str(line))
                self.progress.step()

    def _run(self, items: Sequence[Item], began: list[bool]) -> None:
        # A tuple, because MONAI looks for references and expressions in lists, and changes `#` in their texts.
        self.workflow.parser[CASES] = tuple(items)
        with be_quiet():
            self.workflow.initialize()
            evaluator = self.workflow.parser.get_parsed_content("evaluator")
        keep_one_line(evaluator)
        self.results.attach(evaluator, items)
        self.progress.attach(evaluator)
        evaluator.add_event_handler(Events.GET_BATCH_STARTED, lambda: began.__setitem__(0, True))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.workflow.run()


@contextmanager
def _explain() -> Iterator[None]:
    """Raise an error whose reason is known as one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        line = find_line(error)
        if line is None:
            raise
        raise line from error


def _count_more(reasons: Sequence[str]) -> str:
    return f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
