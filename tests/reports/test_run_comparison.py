"""Comparisons of runs: differences by hand, tests, seeds of one experiment, and what is refused."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from pipeline.commands.cli import main
from pipeline.issues import InputError
from pipeline.reports.run_comparison import compare_experiments, read_experiments
from tests.run_folders import write_run

BASE = {f"c{k}": 0.5 + 0.01 * k for k in range(12)}
PEOPLE = {case: f"p{number // 2}" for number, case in enumerate(BASE)}


def shift(amounts):
    return {case: score + amount for (case, score), amount in zip(BASE.items(), amounts, strict=True)}


def compare(*words):
    return compare_experiments(read_experiments([str(word) for word in words]))


def test_a_pair_by_hand(tmp_path):
    """Six subjects of two cases each, all better: two of 64 changes of sign are as extreme."""
    amounts = np.linspace(0.01, 0.12, 12)
    a = write_run(tmp_path / "a", BASE, subjects=PEOPLE)
    b = write_run(tmp_path / "b", shift(amounts), subjects=PEOPLE)
    metric = compare(a, b).metrics[0]
    pair = metric.pairs[0]
    by_subject = amounts.reshape(6, 2).mean(axis=1)
    assert (pair.first, pair.second, pair.n_cases, pair.n_subjects) == (str(a), str(b), 12, 6)
    assert pair.difference == pytest.approx(0.065)
    assert (pair.permutation_p, pair.wilcoxon_p) == pytest.approx((2 / 64, 2 / 64))
    assert pair.false_claim == pytest.approx(stats.ttest_1samp(by_subject, 0).pvalue / 2)
    assert pair.low is not None
    assert 0.01 < pair.low < 0.065
    assert pair.verdict == f"{b} is better"
    assert [score.mean for score in metric.scores] == pytest.approx([0.555, 0.62])


def test_holm_over_all_pairs_and_smaller_is_better(tmp_path):
    folders = [
        write_run(tmp_path / name, shift(amounts), metric="hd95_image")
        for name, amounts in (("a", np.zeros(12)), ("b", np.full(12, 1.0)), ("c", np.linspace(-1, 1, 12)))
    ]
    pairs = compare(*(f"{folder.name}={folder}" for folder in folders)).metrics[0].pairs
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs[0].permutation_p == 2 / 4096
    assert pairs[0].permutation_p_holm == pytest.approx(3 * 2 / 4096)
    assert pairs[0].verdict == "a is better"
    assert pairs[1].verdict == "not shown: the difference may be chance"


def test_an_interval_that_excludes_zero_does_not_decide(tmp_path):
    """Of six subjects no permutation test can be below 2/64, which three pairs make 6/64."""
    six = dict(list(BASE.items())[:6])
    a, b, c = (
        write_run(tmp_path / name, {case: score + gain for case, score in six.items()})
        for name, gain in (("a", 0), ("b", 0.1), ("c", 0.2))
    )
    pair = compare(a, b, c).metrics[0].pairs[0]
    assert pair.low == pytest.approx(0.1)
    assert pair.permutation_p_holm == pytest.approx(6 / 64)
    assert pair.permutation_p == 2 / 64
    assert (
        pair.verdict
        == "not shown: the permutation test finds a difference, but not after Holm's correction for several pairs"
    )


def test_the_test_is_of_the_difference_that_is_shown(tmp_path):
    """Eleven subjects of one image say one thing, one subject of twenty images the other."""
    people = {f"c{k}": f"p{k}" for k in range(11)} | {f"m{k}": "many" for k in range(20)}
    noise = np.random.default_rng(1).normal(0, 0.01, len(people))
    gains = {case: (0.1 if people[case] == "many" else -0.1) + e for case, e in zip(people, noise, strict=True)}
    a = write_run(tmp_path / "a", dict.fromkeys(people, 0.5), subjects=people)
    b = write_run(tmp_path / "b", {case: 0.5 + gain for case, gain in gains.items()}, subjects=people)
    pair = compare(a, b).metrics[0].pairs[0]
    assert pair.difference == pytest.approx(np.mean(list(gains.values())))
    assert pair.difference > 0
    assert pair.permutation_p > 0.5
    assert pair.verdict == "not shown: the difference may be chance"


def test_cases_that_one_of_two_has_a_score_of_are_told_and_no_verdict_is_against_the_means(tmp_path, capsys):
    """A false finding scores 0, no finding none: the run with false findings must not be called better."""
    healthy = [f"h{k}" for k in range(10)]
    a = write_run(tmp_path / "a", BASE | dict.fromkeys(healthy, math.nan))
    b = write_run(tmp_path / "b", shift(np.linspace(0.01, 0.02, 12)) | dict.fromkeys(healthy, 0.0))
    pair = compare(a, b).metrics[0].pairs[0]
    assert (pair.n_cases, pair.n_single, pair.permutation_p) == (12, 10, 2 / 4096)
    assert pair.verdict == "not told: the means say the opposite, because of cases with a score of one of the two only"
    assert main(["report", "compare", str(a), str(b)]) == 0
    assert "dice_image: up to 10 images of a pair have a score of one of the two only" in capsys.readouterr().out


def test_a_small_p_is_not_zero(tmp_path, capsys):
    many = {f"c{k}": 0.5 for k in range(16)}
    a = write_run(tmp_path / "a", many)
    b = write_run(tmp_path / "b", {case: 0.6 + 0.001 * k for k, case in enumerate(many)})
    assert main(["report", "compare", str(a), str(b)]) == 0
    printed = capsys.readouterr().out
    assert "<0.0001" in printed
    assert "0.0000" not in printed


@pytest.mark.parametrize(("n", "subjects"), [(1, "1 subject"), (5, "5 subjects")])
def test_from_five_subjects_nothing_can_be_told(tmp_path, n, subjects):
    """All better by 0.1, as clear as can be: still p is 2/2^n."""
    people = {case: f"film {i % n}" for i, case in enumerate(BASE)}
    a = write_run(tmp_path / "a", BASE, subjects=people)
    b = write_run(tmp_path / "b", shift(np.full(12, 0.1)), subjects=people)
    pair = compare(a, b).metrics[0].pairs[0]
    assert (pair.n_subjects, pair.permutation_p) == (n, 2 / 2**n)
    assert pair.verdict == f"cannot be told from {subjects}: the permutation test needs 6"


def test_where_few_subjects_differ_there_is_no_interval_and_the_page_says_why(tmp_path, capsys):
    a = write_run(tmp_path / "a", BASE)
    b = write_run(tmp_path / "b", BASE | {case: BASE[case] + 0.1 for case in list(BASE)[:3]})
    pair = compare(a, b).metrics[0].pairs[0]
    assert (pair.low, pair.high) == (None, None)
    assert main(["report", "compare", str(a), str(b)]) == 0
    assert (
        "no interval: 3 of 12 subjects differ, too few for a 95 % interval: at least 5 are needed\n"
        in capsys.readouterr().out
    )


def test_seeds_of_one_name_are_one_experiment(tmp_path):
    words = [f"base={write_run(tmp_path / 'a', BASE)}"]
    words += [f"new={write_run(tmp_path / f'b{k}', shift(np.full(12, gain)))}" for k, gain in enumerate((0.1, 0.2))]
    comparison = compare(*words)
    score = comparison.metrics[0].scores[1]
    assert (score.experiment, score.n_runs, score.mean) == ("new", 2, pytest.approx(0.555 + 0.15))
    assert score.sd_runs == pytest.approx(0.1 / np.sqrt(2))
    assert comparison.metrics[0].pairs[0].difference == pytest.approx(0.15)


def test_trainings_that_differ_in_the_seed_are_one_experiment(tmp_path):
    def train(name, seed, rate):
        config = {"seed": seed, "learning_rate": rate, "output_dir": name}
        return write_run(tmp_path / name, BASE, filename="run.json", config=config)

    first, second, third = train("a", 0, 0.1), train("b", 1, 0.1), train("c", 0, 0.2)
    comparison = compare(first, second, third)
    assert [[run.folder for run in experiment.runs] for experiment in comparison.experiments] == [
        [first, second],
        [third],
    ]
    found = comparison.differences[str(third)]
    assert [(item.place, item.first, item.second) for item in found] == [("learning_rate", "0.1", "0.2")]
    with pytest.raises(InputError, match=r"all runs are one experiment, .*: they differ in their seed only; give them"):
        compare(first, second)
    named = compare(f"A={first}", f"B={second}")  # as the message says
    assert named.metrics[0].pairs[0].verdict == "the means are equal"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manifest": {"path": "m", "sha256": "f" * 64}}, "manifests differ, SHA-256 000000000000 and ffffffffffff"),
        ({"unit": "patient"}, "units of dice_image differ, image and patient"),
        ({"policy": "perfect"}, "policies for empty masks of dice_image differ, exclude and perfect"),
        ({"subjects": dict.fromkeys(BASE, "p")}, "c0 is of subject pc0 and p"),
        (
            {"scores": BASE | {"more": 0.1}},
            "cases of dice_image differ: more in one of them; evaluate the same --split",
        ),
        ({"filename": "run.json"}, "one is a training, the other an evaluation"),
        ({"metric": "iou_image"}, "the runs have no metric in common"),
    ],
)
def test_runs_that_cannot_be_compared(tmp_path, changes, said, capsys):
    a = write_run(tmp_path / "a", BASE)
    b = write_run(tmp_path / "b", changes.pop("scores", BASE), **changes)
    assert main(["report", "compare", str(a), str(b), "-o", str(tmp_path / "page.html")]) == 1
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
    assert not (tmp_path / "page.html").exists()


def test_too_few_runs_and_one_twice(tmp_path, capsys):
    a = str(write_run(tmp_path / "a", BASE))
    with pytest.raises(SystemExit):
        main(["report", "compare", a])
    assert "compare needs two runs or more; type report compare RUN_A RUN_B" in capsys.readouterr().err
    assert main(["report", "compare", a, f"x={a}"]) == 1
    assert "this run is named twice" in capsys.readouterr().err


def test_text_page_and_json_say_the_same(tmp_path, capsys):
    a, b = (write_run(tmp_path / name, shift(np.full(12, k / 10))) for k, name in enumerate("ab"))
    words = ["report", "compare", f"A<i>={a}", f"B|={b}"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "+0.1000" in text
    assert "B| is better" in text
    assert "12 subjects: an interval holds for differences like those seen, not for a rare case" in text
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"][0]["pairs"][0]["difference"] == pytest.approx(0.1)
    for ending in ("html", "md", "json"):
        assert main([*words, "-o", str(tmp_path / f"page.{ending}")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "A&lt;i&gt;" in page
    assert "<i>" not in page
    assert "B\\| is better" in (tmp_path / "page.md").read_text()
