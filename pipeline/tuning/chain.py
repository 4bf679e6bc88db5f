"""A bundle's switchable post-processing steps and its key metric, with any values of the knobs."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import ensure_tuple

from pipeline.issues import InputError
from pipeline.tuning.settings import Setting
from pipeline.tuning.workflow import KEY_METRIC, REFINE, Workflow, collect_settings, explain, list_versions


@dataclass(frozen=True)
class _Done:
    """The output of a step for a case; the key holds the values of its knobs and of those before it."""

    key: tuple[Any, ...]
    data: dict[str, Any]
    seconds: float


class Chain:
    """Scores a case with any values of the knobs.

    The steps and the metric are built from the bundle's config with these values, so scores equal an evaluation's.
    When two settings are scored in a row, the steps before their first difference run only once: another threshold
    after a CRF does not compute the CRF again.

    Args:
        workflow: the bundle's evaluation.

    Raises:
        InputError: the key metric does not score single cases.
    """

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self._steps = workflow.steps
        config = dict(workflow.parser.get())
        self._parser = ConfigParser(config)
        used = [collect_settings(config, [f"{REFINE}#{number}"]) for number in range(len(self._steps))]
        self._knobs = [tuple(knob for knob in workflow.knobs if knob in settings) for settings in used]
        self._built: dict[tuple[Any, ...], Callable[[Any], Any] | None] = {}
        place = f"{KEY_METRIC}#{workflow.metric}"
        with explain(f"{place} of {workflow.bundle}"):
            self._metric = self._parser.get_parsed_content(f"{place}#metric_fn")
            self._select = self._parser.get_parsed_content(f"{place}#output_transform")
        if not hasattr(self._metric, "get_buffer"):
            raise InputError(
                f"{place} of {workflow.bundle} has no metric that scores single cases (MONAI's get_buffer)"
            )
        self._case: dict[str, Any] = {}
        self._done: list[_Done] = []

    def digest(self) -> str:
        """Return a sha256 of everything besides prediction and knobs that scores depend on."""
        return self._workflow.digest([REFINE, f"{KEY_METRIC}#{self._workflow.metric}"], versions=list_versions())

    def start(self, case: Mapping[str, Any]) -> None:
        """Take the entries of a predicted case."""
        self._case = dict(case)
        self._done = []

    def score(self, setting: Setting, case_id: str) -> tuple[float, float]:
        """Score the case passed to `start`.

        Args:
            setting: values of all knobs.
            case_id: name of the case in messages.

        Returns:
            The key metric's score of this case, NaN if it has none; and the seconds that the steps took.

        Raises:
            InputError: a step refuses the case or its knobs.
        """
        done: list[_Done] = []
        last = _Done((), self._case, 0.0)
        for number, names in enumerate(self._knobs):
            key = (*last.key, tuple(_freeze(setting[name]) for name in names))
            if number < len(self._done) and self._done[number].key == key:
                last = self._done[number]
            else:
                last = self._apply(number, key, last.data, setting, case_id)
            done.append(last)
        self._done = done
        return self._compute_score(last.data, case_id), sum(step.seconds for step in done)

    def _apply(self, number: int, key: tuple[Any, ...], data: dict[str, Any], setting: Setting, case_id: str) -> _Done:
        name = (number, key[-1])
        if name not in self._built:
            self._built[name] = self._build(number, setting)
        transform = self._built[name]
        if transform is None:
            return _Done(key, data, 0.0)
        # Some transforms change their input in place, and another setting may still need it.
        changed = ensure_tuple(self._steps[number].get("keys", ()))
        copies = {entry: _copy(value) if entry in changed else value for entry, value in data.items()}
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they would be repeated for every setting; an evaluation shows them
                result = transform(copies)
        except (ValueError, OSError, RuntimeError) as error:
            target = self._steps[number].get("_target_", f"step {number}")
            raise InputError(f"{target}, case {case_id}: {error}") from error
        return _Done(key, result, time.perf_counter() - start)

    def _build(self, number: int, setting: Setting) -> Any:
        """Return the step's transform; None if the setting switches it off."""
        with explain(f"{self._steps[number].get('_target_')} in {self._workflow.bundle}"):
            for name in self._knobs[number]:
                self._parser[name] = setting[name]
            self._parser.parse(reset=True)
            return self._parser.get_parsed_content(f"{REFINE}#{number}")

    def _compute_score(self, data: dict[str, Any], case_id: str) -> float:
        try:
            pred, label = self._select([data])
            self._metric.reset()
            self._metric(pred, label)
            scores = self._metric.get_buffer()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{self._workflow.metric}, case {case_id}: {error}") from error
        return float(torch.as_tensor(scores).double().nanmean())


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
