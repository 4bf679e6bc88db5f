"""The ablation: the score of each step, of the steps of a group together, and of all that is written."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.statistics.paired import Difference
from pipeline.tuning.choice import Choice, Judge, average, join
from pipeline.tuning.settings import STEPS, Setting, Step, switch_off


@dataclass(frozen=True)
class Row:
    """A row of the ablation."""

    name: str  #: of the step or the combination
    setting: Setting  #: values of all knobs
    score: float  #: mean score over the cases
    over: str = ""  #: name of the row that the gains are relative to
    in_sample: float | None = None  #: gain on the cases that chose the values; None where none were chosen
    gain: Difference | None = None  #: gain on cases that had no part in the choice; None for the first row


def ablate(judge: Judge, knobs: Setting, steps: Sequence[Step]) -> tuple[list[Row], list[Choice]]:
    """Choose the steps, and compare them one by one and together.

    Args:
        judge: chooses them.
        knobs: the bundle's values; steps that are not tuned keep them.
        steps: in the order in which they are chosen.

    Returns:
        The rows, the last of which has the setting to be written, and the choices.
    """
    raw = switch_off(knobs, list(STEPS))
    start = switch_off(knobs, list(dict.fromkeys(step.group for step in steps)))
    rows = [Row("raw", raw, average(judge.score(raw)[0].values()))]
    if start != raw:
        rows.append(_compare(judge, "others as shipped", start, raw, "raw"))
    base_name = rows[-1].name
    if knobs not in (raw, start):
        rows.append(_compare(judge, "as shipped", dict(knobs), start, base_name))
    choices = judge.choose_all(steps, start)
    is_on = False
    for choice in choices:
        over = "kept so far" if is_on else base_name
        score = average(judge.score(choice.chosen)[0].values())
        rows.append(Row(choice.step.name, choice.chosen, score, over, choice.in_sample, choice.gain))
        is_on = is_on or choice.is_kept
    for group in STEPS:
        members = [choice for choice in choices if choice.step.group == group]
        if len(members) > 1:
            over = base_name if members[0].base == start else "kept before"
            rows.append(combine(judge, f"{group}, all", members, members[0].base, over))
    rows.append(combine(judge, "all steps", choices, start, base_name))
    rows.append(combine(judge, "written", [choice for choice in choices if choice.is_kept], start, base_name))
    return rows, choices


def _compare(judge: Judge, name: str, setting: Setting, start: Setting, over: str) -> Row:
    """Return the row of a setting that was not chosen on these cases."""
    judge.announce(name)
    before, after = judge.score(start, setting)
    return Row(name, setting, average(after.values()), over, None, judge.compare(after, before))


def combine(judge: Judge, name: str, choices: Sequence[Choice], start: Setting, over: str) -> Row:
    """Return the row of several steps together, relative to the setting that they started from."""
    setting = join(start, choices, [choice.chosen for choice in choices])
    judge.announce(name)
    before, after = judge.score(start, setting)
    gain = judge.compare(judge.score_folds(judge.join_folds(choices, start)), before)
    score = average(after.values())
    return Row(name, setting, score, over, score - average(before.values()), gain)
