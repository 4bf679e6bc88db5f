"""The rule that switches a step on: it must help subjects that had no part in choosing its values.

A value that is best on the validation cases is partly best on these cases alone, so its gain on them is too high. Each
step is therefore chosen again without a few subjects at a time (leave one out up to 20 subjects, else ten folds) and
scored on them: the *cross-fitted* gain. Its 95 % interval, by subject, must lie above zero.

That alone would switch on one useless step in ten: nearly the same value is best whichever subject is left out, so the
gains of the subjects are not independent, as the interval assumes. The best value must therefore also gain more than
the best of equally many useless values would by chance (`pipeline.statistics.paired.judge_best`). In simulations with
13, 40 and 100 subjects and 19 or 32 useless values, similar or not, both conditions together kept 2 to 4 % of them.

Steps are chosen one after the other, each on top of those kept before. A later step may do the same as an earlier one
and more, so each kept step must also improve the score on top of all the others. If one does not, it is left off and
the rest is chosen again without it.

A kept step gets the values that are best on all cases. One optimism remains: the steps kept before it were chosen on
all cases; but they are the same on both sides of the difference.
"""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pipeline.statistics.paired import Difference, compare_paired, judge_best
from pipeline.tuning.settings import Setting, Step, name_setting, pick_best

Scores = dict[str, float]
#: One side of a 95 % interval
CHANCE = 0.025
_LEAVE_ONE_OUT = 20
_FOLDS = 10


class Table(Protocol):
    """Scores of settings, computed where they are not known yet."""

    def score(self, settings: Sequence[Setting], cases: Sequence[str]) -> list[Scores]:
        """Return the scores of each setting by case; NaN where a case has none."""


@dataclass(frozen=True)
class Choice:
    """The values chosen for a step, and the evidence for them."""

    step: Step  #: the step
    base: Setting  #: the setting that it was chosen on top of
    chosen: Setting  #: the best setting on all cases; the base if nothing is better
    by_fold: tuple[Setting, ...]  #: the setting chosen without the cases of each fold
    in_sample: float  #: gain of ``chosen`` on the cases that chose it
    gain: Difference  #: the cross-fitted gain
    tried: int  #: number of settings that were compared with the base
    by_chance: float  #: p value of the best of them, see `judge_best`
    #: gain on top of the other kept steps; None unless the step is left off because it is too small
    on_top: Difference | None = None

    @property
    def helps(self) -> bool:
        """Whether the step helps on top of its base."""
        return self.chosen != self.base and self.gain.is_gain and self.by_chance < CHANCE

    @property
    def is_kept(self) -> bool:
        """Whether the step is switched on."""
        return self.helps and self.on_top is None


@dataclass
class Judge:
    """Chooses steps and computes their gains."""

    table: Table  #: scores
    subjects: Mapping[str, str]  #: subject of each case, in the order of the cases
    resamples: int  #: number of bootstrap resamples
    seed: int  #: of folds and resamples
    announce: Callable[[str], None] = lambda name: None  #: is called with the name of the step to be scored next
    limits: tuple[float, float] | None = None  #: the least and the greatest possible score
    folds: list[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.folds = split_folds(self.subjects, self.seed)

    def score(self, *settings: Setting) -> list[Scores]:
        """Return the scores of each setting on all cases."""
        return self.table.score(settings, list(self.subjects))

    def choose(self, step: Step, base: Setting) -> Choice:
        """Choose the values of a step, and compute its gain on cases that had no part in the choice."""
        self.announce(step.name)
        named = {name_setting(setting): setting for setting in (base, *(base | values for values in step.candidates))}
        settings = list(named.values())
        scores = self.score(*settings)

        def pick(cases: Sequence[str]) -> int:
            return pick_best([average(by_case[case] for case in cases) for by_case in scores]) if cases else 0

        best = pick(list(self.subjects))
        folds = [set(fold) for fold in self.folds]
        by_fold = tuple(settings[pick([case for case in self.subjects if case not in fold])] for fold in folds)
        gain = self.compare(self.score_folds(by_fold), scores[0])
        chance = judge_best(scores[1:], scores[0], self.subjects, resamples=self.resamples, seed=self.seed)
        in_sample = average(scores[best].values()) - average(scores[0].values())
        return Choice(step, base, settings[best], by_fold, in_sample, gain, len(settings) - 1, chance)

    def choose_all(self, steps: Sequence[Step], start: Setting) -> list[Choice]:
        """Choose one step after the other, each on top of those kept; leave off those that the others replace."""
        left_off: dict[str, Difference] = {}
        while True:
            choices: list[Choice] = []
            base = start
            for step in steps:
                choices.append(replace(self.choose(step, base), on_top=left_off.get(step.name)))
                base = choices[-1].chosen if choices[-1].is_kept else base
            gains = self._compare_on_top(choices, start)
            replaced = [name for name, gain in gains.items() if not gain.is_gain]
            if not replaced:
                return choices
            weakest = min(replaced, key=lambda name: gains[name].mean)
            left_off[weakest] = gains[weakest]

    def _compare_on_top(self, choices: Sequence[Choice], start: Setting) -> dict[str, Difference]:
        """Return the cross-fitted gain of each kept step on top of the other kept steps."""
        kept = [choice for choice in choices if choice.is_kept]
        if len(kept) < 2:
            return {}
        together = self.score_folds(self.join_folds(kept, start))
        return {
            choice.step.name: self.compare(
                together, self.score_folds(self.join_folds([other for other in kept if other is not choice], start))
            )
            for choice in kept
        }

    def join_folds(self, choices: Sequence[Choice], start: Setting) -> list[Setting]:
        """Return, for each fold, the start with the values that each step chose without the fold."""
        folds = range(len(self.folds))
        return [join(start, choices, [choice.by_fold[fold] for choice in choices]) for fold in folds]

    def score_folds(self, settings: Sequence[Setting]) -> Scores:
        """Return the score of each case with the setting of its fold."""
        scores = {}
        for setting, fold in zip(settings, self.folds, strict=True):
            scores.update(self.table.score([setting], fold)[0])
        return scores

    def compare(self, scores: Mapping[str, float], baseline: Mapping[str, float]) -> Difference:
        """Return the mean difference of scores, with its interval by subject."""
        return compare_paired(
            scores, baseline, self.subjects, limits=self.limits, resamples=self.resamples, seed=self.seed
        )


def split_folds(subjects: Mapping[str, str], seed: int) -> list[list[str]]:
    """Divide cases into folds by subject: one fold per subject up to 20 subjects, else ten folds.

    Example:
        >>> split_folds({"a1": "a", "b1": "b", "a2": "a"}, seed=0)
        [['a1', 'a2'], ['b1']]
    """
    names = sorted(set(subjects.values()))
    groups = [{name} for name in names]
    if len(names) > _LEAVE_ONE_OUT:
        random.Random(seed).shuffle(names)
        groups = [set(names[number::_FOLDS]) for number in range(_FOLDS)]
    return [[case for case, subject in subjects.items() if subject in group] for group in groups]


def average(scores: Iterable[float]) -> float:
    """Return the mean of the finite scores; NaN if there are none.

    Example:
        >>> average([0.5, float("nan"), 1.0])
        0.75
    """
    values = [value for value in scores if math.isfinite(value)]
    return sum(values) / len(values) if values else math.nan


def join(start: Setting, choices: Sequence[Choice], settings: Sequence[Setting]) -> Setting:
    """Return the start with the knobs of each step as in the setting at its place."""
    result = dict(start)
    for choice, setting in zip(choices, settings, strict=True):
        result.update({knob: setting[knob] for knob in choice.step.knobs})
    return result
