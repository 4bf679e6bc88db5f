"""Compare runs on the same cases, in pairs by subject: differences, intervals, tests, what so few cases can show."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle.check.differences import compare_configs
from pipeline.datasets.manifests.manifest import make_subject_key
from pipeline.issues import InputError
from pipeline.runs.metric_names import find_limits, is_small_good
from pipeline.runs.reliability import ALL_METRICS, DOUBT
from pipeline.runs.run_folder import Run, read_run
from pipeline.statistics.paired import compare_paired
from pipeline.statistics.significance import (
    adjust_holm,
    find_false_claim_probability,
    find_permutation_p,
    find_smallest_difference,
    find_wilcoxon_p,
    list_differences,
)

#: With fewer subjects a case in twenty that one method misses may be in none of them, see `pipeline.statistics.paired`
FEW_SUBJECTS = 60
LEVEL = 0.05
#: The smallest p of a sign-flip test of n subjects is 2 / 2^n; with 5 it is above the level, whatever the scores
FEWEST_TO_TELL = math.floor(math.log2(2 / LEVEL)) + 1


@dataclass(frozen=True)
class Experiment:
    """Runs that differ in their seed only, or a single run."""

    name: str  #: what it is called
    runs: tuple[Run, ...]  #: its runs

    def average(self, metric: str) -> dict[str, float]:
        """Return the mean score over the runs by case, NaN where one of them has none."""
        tables = [run.tables[metric].scores for run in self.runs]
        return {case: float(np.mean([table[case] for table in tables])) for case in tables[0]}


@dataclass(frozen=True)
class Score:
    """The mean of one metric of one experiment."""

    experiment: str  #: its name
    mean: float  #: mean over cases, of several runs over them too
    n_runs: int  #: number of runs
    sd_runs: float | None  #: standard deviation of the runs' means; None of a single run


@dataclass(frozen=True)
class Pair:
    """The second experiment's scores minus the first one's."""

    first: str  #: name of the first
    second: str  #: name of the second
    difference: float  #: mean over cases; NaN if no case has both scores
    low: float | None  #: lower end of the 95 % interval by subject, see `compare_paired`
    high: float | None  #: upper end of it
    n_cases: int  #: cases with both scores
    n_subjects: int  #: their subjects
    n_single: int  #: cases with a score of one of the two, which are left out
    wilcoxon_p: float  #: of the signed-rank test by subject
    permutation_p: float  #: of the sign-flip test by subject
    permutation_p_holm: float  #: the same, adjusted for the number of pairs
    false_claim: float | None  #: probability that the better one is not better, if it is claimed
    smallest_difference: float | None  #: smallest true difference that so many subjects show with 80 %
    verdict: str  #: in words
    why_not: str = ""  #: why there is no interval


@dataclass(frozen=True)
class MetricComparison:
    """One metric of all experiments."""

    metric: str  #: its name
    unit: str  #: what a case is
    small_is_good: bool  #: whether smaller is better
    scores: tuple[Score, ...]  #: by experiment
    pairs: tuple[Pair, ...]  #: each pair once


@dataclass(frozen=True)
class Comparison:
    """Experiments on the same cases."""

    experiments: tuple[Experiment, ...]  #: in the order given
    metrics: tuple[MetricComparison, ...]  #: those that all have
    differences: Mapping[str, Sequence[Any]]  #: of the configs to the first experiment's, by name
    notes: Sequence[str] = field(default_factory=tuple)  #: what could not be compared


def read_experiments(words: Sequence[str]) -> list[Experiment]:
    """Read runs, each a folder or ``NAME=FOLDER``; runs of one name are one experiment.

    Runs that were trained with the same config but another seed are one experiment without a name too.

    Raises:
        InputError: as `read_run`, or a run is named twice.
    """
    named: dict[str, list[Run]] = {}
    seen: set[Path] = set()
    for word in words:
        name, folder = _split_word(word)
        run = read_run(folder)
        if run.folder.resolve() in seen:
            raise InputError(f"{folder}: this run is named twice, expected different ones")
        seen.add(run.folder.resolve())
        named.setdefault(name or _find_twin(named, run) or str(folder), []).append(run)
    return [Experiment(name, tuple(runs)) for name, runs in named.items()]


def _split_word(word: str) -> tuple[str, str]:
    name, mark, folder = word.partition("=")
    return ("", word) if not mark or not name or not folder or Path(word).is_dir() else (name, folder)


def _find_twin(named: Mapping[str, Sequence[Run]], run: Run) -> str:
    """Return the experiment whose runs differ from a training in the seed only."""
    config = _read_config(run)
    if not config or not run.is_training:
        return ""
    for name, runs in named.items():
        other = _read_config(runs[0])
        differ = runs[0].is_training and other and other.get("seed") != config.get("seed")
        if differ and _strip(other, "seed") == _strip(config, "seed"):
            return name
    return ""


def _read_config(run: Run) -> dict[str, Any]:
    config = run.record.get("config")
    return config if isinstance(config, dict) else {}


def _strip(config: Mapping[str, Any], *more: str) -> dict[str, Any]:
    """Leave out what says where a run is and not what it is."""
    return {key: value for key, value in config.items() if key not in ("output_dir", "bundle_root", "ablation", *more)}


def compare_experiments(experiments: Sequence[Experiment]) -> Comparison:
    """Compare experiments on all metrics that they have in common.

    Raises:
        InputError: there is only one, or their manifests, cases, subjects, units or policies differ.
    """
    if len(experiments) < 2:
        raise InputError(
            f"all runs are one experiment, {experiments[0].name}: they differ in their seed only; "
            "give them different names, as in A=RUN_A B=RUN_B, to compare them"
        )
    runs = [run for experiment in experiments for run in experiment.runs]
    common = [name for name in runs[0].summaries if all(name in run.summaries for run in runs)]
    names = [name for name in common if name not in (DOUBT, *ALL_METRICS)]
    if not names:
        told = "; ".join(f"{run.folder}: {', '.join(run.summaries) or 'none'}" for run in runs)
        raise InputError(f"the runs have no metric in common ({told}); run the same evaluate.json for each")
    notes = _require_comparable(runs, names)
    first = _read_config(experiments[0].runs[0])
    differences = {
        experiment.name: compare_configs(_strip(first), _strip(_read_config(experiment.runs[0])))
        for experiment in experiments[1:]
        if first and _read_config(experiment.runs[0])
    }
    if len(differences) < len(experiments) - 1:
        notes.append("a record has no config, so configs are not compared: runs of an older version")
    metrics = tuple(_compare_metric(name, experiments) for name in names)
    return Comparison(tuple(experiments), metrics, differences, notes)


def _require_comparable(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Refuse runs that are not about the same cases in the same way; return what is unknown."""
    first, notes = runs[0], []
    for run in runs[1:]:
        where = f"cannot compare {first.folder} and {run.folder}"
        ours, theirs = _read_digest(first), _read_digest(run)
        if ours and theirs and ours != theirs:
            raise InputError(
                f"{where}: manifests differ, SHA-256 {ours[:12]} and {theirs[:12]}; evaluate both with one"
            )
        if not (ours and theirs):
            notes.append(f"{first.folder if not ours else run.folder} has no record of its manifest; case ids agree")
        if first.is_training != run.is_training:
            raise InputError(f"{where}: one is a training, the other an evaluation; run evaluate.json for both")
        for name in names:
            _require_same_table(first, run, name, where)
    return list(dict.fromkeys(notes))


def _require_same_table(first: Run, run: Run, name: str, where: str) -> None:
    table, other = first.tables[name], run.tables[name]
    missing = sorted(table.scores.keys() ^ other.scores.keys())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise InputError(
            f"{where}: cases of {name} differ: {missing[0]}{more} in one of them; evaluate the same --split"
        )
    known = [case for case in table.scores if table.subjects.get(case) and other.subjects.get(case)]
    moved = [case for case in known if table.subjects[case] != other.subjects[case]]
    if moved:
        raise InputError(f"{where}: {moved[0]} is of subject {table.subjects[moved[0]]} and {other.subjects[moved[0]]}")
    facts = (
        ("units", table.unit, other.unit),
        ("policies for empty masks", first.summaries[name].empty_policy, run.summaries[name].empty_policy),
    )
    for what, ours, theirs in facts:
        if ours and theirs and ours != theirs:
            raise InputError(
                f"{where}: {what} of {name} differ, {ours} and {theirs}; evaluate both with one evaluate.json"
            )


def _read_digest(run: Run) -> str:
    manifest = run.record.get("manifest")
    return str(manifest.get("sha256") or "") if isinstance(manifest, Mapping) else ""


def _compare_metric(name: str, experiments: Sequence[Experiment]) -> MetricComparison:
    table = experiments[0].runs[0].tables[name]
    people = {case: make_subject_key(table.subjects.get(case, ""), case) for case in table.scores}
    scores = {experiment.name: experiment.average(name) for experiment in experiments}
    pairs = list(itertools.combinations(scores, 2))
    found = [list_differences(scores[second], scores[first], people) for first, second in pairs]
    p_values = [find_permutation_p(differences) if len(differences) else 1.0 for differences in found]
    adjusted = adjust_holm(p_values)
    return MetricComparison(
        metric=name,
        unit=table.unit,
        small_is_good=is_small_good(name),
        scores=tuple(_describe_score(experiment, name) for experiment in experiments),
        pairs=tuple(
            _describe_pair(name, names, scores, people, differences, p, holm)
            for names, differences, p, holm in zip(pairs, found, p_values, adjusted, strict=True)
        ),
    )


def _describe_score(experiment: Experiment, name: str) -> Score:
    means = [run.summaries[name].mean for run in experiment.runs]
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return Score(experiment.name, float(np.mean(means)), len(means), spread)


def _describe_pair(
    metric: str,
    names: tuple[str, str],
    scores: Mapping[str, Mapping[str, float]],
    people: Mapping[str, str],
    differences: Any,
    p: float,
    holm: float,
) -> Pair:
    first, second = (scores[name] for name in names)
    both = [case for case in first if math.isfinite(first[case]) and math.isfinite(second[case])]
    interval = compare_paired(
        {case: second[case] for case in both}, {case: first[case] for case in both}, people, limits=find_limits(metric)
    )
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    pair = Pair(
        first=names[0],
        second=names[1],
        difference=interval.mean,
        low=interval.low,
        high=interval.high,
        n_cases=len(both),
        n_subjects=len(differences),
        n_single=sum(math.isfinite(first[case]) != math.isfinite(second[case]) for case in first),
        wilcoxon_p=find_wilcoxon_p(differences) if len(differences) else 1.0,
        permutation_p=p,
        permutation_p_holm=holm,
        false_claim=find_false_claim_probability(differences),
        smallest_difference=find_smallest_difference(spread, len(differences)) if spread else None,
        verdict="",
        why_not=interval.why_not,
    )
    apart = _average(second) - _average(first)
    return replace(pair, verdict=_judge(pair, apart, is_small_good(metric)))


def _average(scores: Mapping[str, float]) -> float:
    known = [value for value in scores.values() if math.isfinite(value)]
    return float(np.mean(known)) if known else math.nan


def _judge(pair: Pair, apart: float, small_is_good: bool) -> str:
    """Return the verdict in words; ``apart`` is the difference of the means that the runs report."""
    if not math.isfinite(pair.difference):
        return "no case has both scores"
    if pair.difference == 0:
        return "the means are equal"
    if pair.n_subjects < FEWEST_TO_TELL:
        subjects = f"{pair.n_subjects} subject{'s' * (pair.n_subjects > 1)}"
        return f"cannot be told from {subjects}: the permutation test needs {FEWEST_TO_TELL}"
    if pair.n_single and apart * pair.difference < 0:
        return "not told: the means say the opposite, because of cases with a score of one of the two only"
    if pair.permutation_p_holm < LEVEL:
        return f"{(pair.first, pair.second)[int((pair.difference > 0) != small_is_good)]} is better"
    if pair.permutation_p < LEVEL:
        return "not shown: the permutation test finds a difference, but not after Holm's correction for several pairs"
    if pair.low is not None and pair.high is not None and not pair.low <= 0 <= pair.high:
        return "not shown: the interval excludes 0, but the permutation test finds no difference"
    return "not shown: the difference may be chance"
