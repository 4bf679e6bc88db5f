"""Review first: the cases that a network is least sure of, and how many of the worst ones are among them."""

import math
from collections.abc import Mapping
from typing import Any

from scipy import stats

from pipeline.runs.metric_names import is_small_good
from pipeline.runs.reliability import DOUBT
from pipeline.runs.run_folder import Run, finite

_SHARE = 5  # the worst and the first fifth
_FEW = 15  # with fewer cases a fifth is one or two
_CHANCE = 0.05
_SHOWN = 20
_NOTHING = "This run has no doubt by case: run evaluate.json again with this folder as --output_dir."
_OF_TRAINING = "A training measures no doubt: run evaluate.json with its model.pt as --checkpoint."


def rank_cases(run: Run, metric: str | None) -> dict[str, Any]:
    """Return the cases, the least certain first, and what that order is worth; or why there is none."""
    table = run.tables.get(DOUBT)
    doubts = {case: doubt for case, doubt in table.scores.items() if math.isfinite(doubt)} if table else {}
    if not doubts or table is None:
        return {"rows": [], "metric": metric, "found": None, "why_not": _OF_TRAINING if run.is_training else _NOTHING}
    scores = run.tables[metric].scores if metric else {}
    ranked = sorted(doubts, key=lambda case: -doubts[case])
    known = {case: scores[case] for case in ranked if math.isfinite(scores.get(case, math.nan))}
    rows = [
        {
            "case": case,
            "subject": table.subjects.get(case, ""),
            "doubt": doubts[case],
            "score": finite(scores.get(case)),
        }
        for case in ranked
    ]
    found = count_found(doubts, known, small_is_good=is_small_good(metric or ""))
    return {"rows": rows, "metric": metric, "found": found, "why_not": "", "shown": _SHOWN}


def count_found(
    doubts: Mapping[str, float], scores: Mapping[str, float], *, small_is_good: bool = False
) -> dict[str, Any] | None:
    """Count how many of the worst fifth by score are among the first fifth by doubt.

    Args:
        doubts: by case.
        scores: by case; only these cases count.
        small_is_good: whether the largest score is the worst.

    Returns:
        ``fifth``, ``found``, the number ``by_chance``, the hypergeometric probability ``p`` of so many or more, and a
        sentence; None without scores.

    Example:
        >>> doubts = {str(k): 1 - k / 20 for k in range(20)}
        >>> found = count_found(doubts, {str(k): k / 20 for k in range(20)})
        >>> found["fifth"], found["found"], found["by_chance"]
        (4, 4, 0.8)
    """
    n = len(scores)
    if not n:
        return None
    fifth = max(1, round(n / _SHARE))
    worst = set(sorted(scores, key=lambda case: -scores[case] if small_is_good else scores[case])[:fifth])
    first = set(sorted(scores, key=lambda case: -doubts[case])[:fifth])
    found = len(worst & first)
    p = float(stats.hypergeom.sf(found - 1, n, fifth, fifth))
    said = {"cases": n, "fifth": fifth, "found": found, "by_chance": fifth**2 / n, "p": p}
    return said | {"text": _judge(said)}


def _judge(said: Mapping[str, Any]) -> str:
    counted = (
        f"Of the worst {said['fifth']} of {said['cases']} cases, {said['found']} are among the first {said['fifth']} "
        f"by doubt; in a random order {said['by_chance']:.1f} would be."
    )
    if said["cases"] < _FEW:
        return f"{counted} So few cases do not show whether doubt finds the worst ones."
    if said["p"] < _CHANCE:
        return f"{counted} Doubt finds more of them than chance (p {said['p']:.2g})."
    return f"{counted} That may be chance (p {said['p']:.2g})."
