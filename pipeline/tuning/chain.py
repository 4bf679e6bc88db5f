"""The later steps of a bundle's post-processing and its key metric, with any values of the knobs."""

from __future__ import annotations

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
from pipeline.tuning.workflow import KEY_METRIC, Workflow, collect_settings, explain, list_versions

_TAIL = "tuned_steps"  # an id that no config has


@dataclass(frozen=True)
class _Done:
    """What a step made of a case."""

    key: tuple[Any, ...]
    data: dict[str, Any]
    seconds: float


class Chain:
    """Scores a case with any values of the knobs.

    What is tuned is what is run: the steps and the metric are those of the config, built with these values. Of two
    settings one after the other the steps before the first difference run once, so that a threshold behind a CRF
    does not compute the CRF again.

    Args:
        workflow: the bundle's evaluation.

    Raises:
        InputError: the key metric is none that scores cases.
    """

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        config = {**workflow.parser.get(), _TAIL: workflow.tail}
        self._parser = ConfigParser(config)
        self._knobs = [self._find_knobs(config, number) for number in range(len(workflow.tail))]
        self._steps: dict[tuple[Any, ...], Callable[[Any], Any] | None] = {}
        place = f"{KEY_METRIC}#{workflow.metric}"
        with explain(f"{place} of {workflow.bundle}"):
            self._metric = self._parser.get_parsed_content(f"{place}#metric_fn")
            self._select = self._parser.get_parsed_content(f"{place}#output_transform")
        if not hasattr(self._metric, "get_buffer"):
            raise InputError(f"{place} of {workflow.bundle} has no metric that scores cases one by one")
        self._case: dict[str, Any] = {}
        self._done: list[_Done] = []

    def digest(self) -> str:
        """Return a sha256 of all that scores depend on besides prediction and knobs."""
        config = {**self._workflow.parser.get(), _TAIL: self._workflow.tail}
        steps = collect_settings(config, [_TAIL], leave_out=tuple(self._workflow.knobs))
        return self._workflow.digest([f"{KEY_METRIC}#{self._workflow.metric}"], steps=steps, versions=list_versions())

    def start(self, case: Mapping[str, Any]) -> None:
        """Take the entries of a predicted case."""
        self._case = dict(case)
        self._done = []

    def score(self, setting: Setting, case_id: str) -> tuple[float, float]:
        """Score the case that was started.

        Args:
            setting: values of all knobs.
            case_id: names it in messages.

        Returns:
            The key metric's score of this case, NaN for none; and the seconds that the steps took.

        Raises:
            InputError: a step refuses the case or its knobs.
        """
        done: list[_Done] = []
        data = self._case
        key: tuple[Any, ...] = ()
        for number, names in enumerate(self._knobs):
            values = tuple(_freeze(setting[name]) for name in names)
            key = (*key, values)
            if number < len(self._done) and self._done[number].key == key:
                step = self._done[number]
            else:
                step = self._apply(number, (number, *values), key, data, setting, case_id)
            done.append(step)
            data = step.data
        self._done = done
        return self._compute_score(data, case_id), sum(step.seconds for step in done)

    def _apply(
        self,
        number: int,
        name: tuple[Any, ...],
        key: tuple[Any, ...],
        data: dict[str, Any],
        setting: Setting,
        case_id: str,
    ) -> _Done:
        if name not in self._steps:
            self._steps[name] = self._build(number, setting)
        transform = self._steps[name]
        if transform is None:
            return _Done(key, data, 0.0)
        # Some transforms change their input, which another setting may need as it was.
        changed = ensure_tuple(self._workflow.tail[number].get("keys", ()))
        own = {entry: _copy(value) if entry in changed else value for entry, value in data.items()}
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                # Once is enough, and a run of the bundle says it.
                warnings.simplefilter("ignore")
                result = transform(own)
        except (ValueError, OSError, RuntimeError) as error:
            target = self._workflow.tail[number].get("_target_", f"step {number}")
            raise InputError(f"{target}, case {case_id}: {error}") from error
        return _Done(key, result, time.perf_counter() - start)

    def _build(self, number: int, setting: Setting) -> Any:
        with explain(f"{self._workflow.tail[number].get('_target_')} in {self._workflow.bundle}"):
            for name in self._knobs[number]:
                self._parser[name] = setting[name]
            self._parser.parse(reset=True)
            # None where the step is switched off.
            return self._parser.get_parsed_content(f"{_TAIL}#{number}")

    def _compute_score(self, data: dict[str, Any], case_id: str) -> float:
        try:
            pred, label = self._select([data])
            self._metric.reset()
            self._metric(pred, label)
            scores = self._metric.get_buffer()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{self._workflow.metric}, case {case_id}: {error}") from error
        return float(torch.as_tensor(scores).double().nanmean())

    def _find_knobs(self, config: Mapping[str, Any], number: int) -> tuple[str, ...]:
        used = collect_settings(config, [f"{_TAIL}#{number}"])
        return tuple(knob for knob in self._workflow.knobs if knob in used)


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
