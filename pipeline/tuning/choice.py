"""Which steps are switched on: those that help subjects which had no part in choosing their values.

A value that is best on the validation cases is in part best on these cases alone, so its gain on them is too high. Each
step is therefore chosen again without a few subjects at a time (leave one out up to 20 subjects, else ten folds) and
scored on them: the *cross-fitted* gain. Its 95 % bootstrap interval, by subject, must lie above zero.

That alone would switch on one useless step in ten: without one subject nearly always the same value is the best, so the
gains of the subjects are not independent, as the interval takes them to be. So the best value must also gain more than
the best of as many useless ones would by chance (`pipeline.statistics.paired.judge_best`); in simulations with 13, 40
and 100 subjects and 19 or 32 useless values, alike or not, both together kept 2 to 4 % of them.

Steps are chosen one after the other, each on top of those that were kept. A later one may do what an earlier one did,
and more: so each step that was kept must also gain beside all the others, else it is left off and the rest is chosen
again without it.

A step that is kept gets the values that are best on all cases. One optimism is left: a step's base, what was kept
before it, was chosen on all cases; but it is the same on both sides of the difference.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pipeline.statistics.paired import Difference, compare_paired, judge_best
from pipeline.tuning.settings import Means, Setting, Step, name_setting

#: One side of a 95 % interval.
CHANCE = 0.025
_LEAVE_ONE_OUT = 20
_FOLDS = 10


class Table(Protocol):
    """Scores of settings, computed where they are not known yet."""

    def score(self, settings: Sequence[Setting], cases: Sequence[str]) -> list[dict[str, float]]:
        """Return for each setting its score by case; NaN for none."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for a step.

    Attributes:
        step: the step.
        base: the setting that it was chosen on top of.
        chosen: the best setting on all cases; the base where nothing is better.
        by_fold: what was chosen without the cases of each fold.
        in_sample: gain of ``chosen`` on the cases that chose it.
        gain: the cross-fitted gain.
        tried: number of settings that were compared with the base.
        by_chance: p value of the best of them, see `judge_best`.
        beside: gain beside the other steps that were kept, for a step that was left off for it.
    """

    step: Step
    base: Setting
    chosen: Setting
    by_fold: tuple[Setting, ...]
    in_sample: float
    gain: Difference
    tried: int
    by_chance: float
    beside: Difference | None = None

    @property
    def helps(self) -> bool:
        """Whether the step helps on top of its base."""
        return self.chosen != self.base and self.gain.is_gain and self.by_chance < CHANCE

    @property
    def is_kept(self) -> bool:
        """Whether the step is switched on."""
        return self.helps and self.beside is None


@dataclass(frozen=True)
class Row:
    """A line of the ablation.

    Attributes:
        name: what it is.
        setting: values of all knobs.
        score: mean score over the cases.
        over: name of what the gains are over.
        in_sample: gain on the cases that chose the values; None where none were chosen.
        gain: gain on cases that did not; None where it is the base itself.
    """

    name: str
    setting: Setting
    score: float
    over: str = ""
    in_sample: float | None = None
    gain: Difference | None = None


@dataclass
class Judge:
    """Chooses steps and computes their gains.

    Args:
        table: scores.
        subjects: subject by case, in the order of the cases.
        resamples: number of bootstrap resamples.
        seed: of folds and resamples.
        announce: gets the name of what is scored next.
    """

    table: Table
    subjects: Mapping[str, str]
    resamples: int
    seed: int
    announce: Callable[[str], None] = lambda name: None
    folds: list[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.folds = split_folds(self.subjects, self.seed)

    def choose(self, step: Step, base: Setting) -> Choice:
        """Choose the values of a step, and compute its gain on cases that did not choose."""
        self.announce(step.name)
        tried: dict[str, Setting] = {}
        chosen = step.choose(self._means(list(self.subjects), tried), base)
        by_fold = []
        for fold in self.folds:
            rest = [case for case in self.subjects if case not in set(fold)]
            by_fold.append(step.choose(self._means(rest), base) if rest else base)
        compared = [setting for name, setting in tried.items() if name != name_setting(base)]
        before, after = self.table.score([base, chosen], list(self.subjects))
        gain = self._compare(self._score_folds(by_fold), before)
        chance = judge_best(
            self.table.score(compared, list(self.subjects)),
            before,
            self.subjects,
            resamples=self.resamples,
            seed=self.seed,
        )
        in_sample = average(after) - average(before)
        return Choice(step, base, chosen, tuple(by_fold), in_sample, gain, len(compared), chance)

    def choose_all(self, steps: Sequence[Step], start: Setting) -> list[Choice]:
        """Choose one step after the other, each on top of those that were kept; leave off what the others replace."""
        left_off: dict[str, Difference] = {}
        while True:
            choices: list[Choice] = []
            base = start
            for step in steps:
                choices.append(replace(self.choose(step, base), beside=left_off.get(step.name)))
                base = choices[-1].chosen if choices[-1].is_kept else base
            beside = self._compare_beside(choices, start)
            replaced = [name for name, gain in beside.items() if not gain.is_gain]
            if not replaced:
                return choices
            weakest = min(replaced, key=lambda name: beside[name].mean)
            left_off[weakest] = beside[weakest]

    def _compare_beside(self, choices: Sequence[Choice], start: Setting) -> dict[str, Difference]:
        """Return the gain of each step that was kept over the setting without it, on cases that did not choose."""
        kept = [choice for choice in choices if choice.is_kept]
        if len(kept) < 2:
            return {}

        def score(parts: Sequence[Choice]) -> dict[str, float]:
            folds = range(len(self.folds))
            return self._score_folds([_join(start, parts, [part.by_fold[fold] for part in parts]) for fold in folds])

        together = score(kept)
        return {
            choice.step.name: self._compare(together, score([other for other in kept if other is not choice]))
            for choice in kept
        }

    def combine(self, name: str, choices: Sequence[Choice], start: Setting, over: str) -> Row:
        """Return the line of several steps together, over the setting that they started from."""
        settings = [_join(start, choices, [choice.chosen for choice in choices])]
        settings += [
            _join(start, choices, [choice.by_fold[number] for choice in choices]) for number in range(len(self.folds))
        ]
        self.announce(name)
        before, after = self.table.score([start, settings[0]], list(self.subjects))
        gain = self._compare(self._score_folds(settings[1:]), before)
        return Row(name, settings[0], average(after), over, average(after) - average(before), gain)

    def compare(self, name: str, setting: Setting, start: Setting, over: str) -> Row:
        """Return the line of a setting that was not chosen on these cases."""
        self.announce(name)
        before, after = self.table.score([start, setting], list(self.subjects))
        return Row(name, setting, average(after), over, None, self._compare(after, before))

    def mean(self, setting: Setting) -> float:
        """Return the mean score of a setting."""
        return average(self.table.score([setting], list(self.subjects))[0])

    def _means(self, cases: Sequence[str], tried: dict[str, Setting] | None = None) -> Means:
        def compute(settings: Sequence[Setting]) -> list[float]:
            if tried is not None:
                tried.update({name_setting(setting): setting for setting in settings})
            return [average(scores) for scores in self.table.score(settings, cases)]

        return compute

    def _score_folds(self, settings: Sequence[Setting]) -> dict[str, float]:
        """Return the score of each case with the setting of its fold."""
        scores = {}
        for setting, fold in zip(settings, self.folds, strict=True):
            scores.update(self.table.score([setting], fold)[0])
        return scores

    def _compare(self, scores: Mapping[str, float], baseline: Mapping[str, float]) -> Difference:
        return compare_paired(scores, baseline, self.subjects, resamples=self.resamples, seed=self.seed)


def split_folds(subjects: Mapping[str, str], seed: int) -> list[list[str]]:
    """Divide cases into folds by subject: one a subject up to 20 subjects, else ten.

    Example:
        >>> split_folds({"a1": "a", "b1": "b", "a2": "a"}, seed=0)
        [['a1', 'a2'], ['b1']]
    """
    names = sorted(set(subjects.values()))
    if len(names) > _LEAVE_ONE_OUT:
        random.Random(seed).shuffle(names)
        groups = [set(names[number::_FOLDS]) for number in range(_FOLDS)]
    else:
        groups = [{name} for name in names]
    return [[case for case, subject in subjects.items() if subject in group] for group in groups]


def average(scores: Mapping[str, float]) -> float:
    """Return the mean over the cases that have a score; NaN if none has.

    Example:
        >>> average({"a": 0.5, "b": float("nan"), "c": 1.0})
        0.75
    """
    values = [value for value in scores.values() if math.isfinite(value)]
    return sum(values) / len(values) if values else math.nan


def _join(start: Setting, choices: Sequence[Choice], settings: Sequence[Setting]) -> Setting:
    """Return the start with the knobs of each step as its own setting has them."""
    result = dict(start)
    for choice, setting in zip(choices, settings, strict=True):
        result.update({knob: setting[knob] for knob in choice.step.knobs})
    return result
