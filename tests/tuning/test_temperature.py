"""The temperature: found where it is known, judged by subjects that had no part in it, written and used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pipeline.commands.cli import main
from pipeline.issues import InputError
from pipeline.statistics.paired import Difference
from pipeline.transforms import ScaleTemperature
from pipeline.tuning.temperature import Sample, TemperatureFit, fit_temperature, take_sample
from pipeline.tuning.tuning_options import read_steps
from pipeline.tuning.wording import describe_temperature
from tests.tuning.conftest import Experiment


def draw_samples(temperature: float, classes: int, cases: int = 8) -> dict[str, Sample]:
    """Truths are drawn from probabilities; the network's logits are ``temperature`` times too large."""
    generator = torch.Generator().manual_seed(classes)
    samples = {}
    for number in range(cases):
        logits = 2 * torch.randn(max(2, classes), 4000, generator=generator)
        if classes == 1:
            logits[0] = 0
        truth = torch.multinomial(logits.softmax(0).T, 1, generator=generator)[:, 0]
        said = (logits * temperature).softmax(0)
        samples[f"c{number}"] = Sample(said[1:] if classes == 1 else said, truth)
    return samples


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("temperature", [0.6, 2.5])
def test_a_known_temperature_is_found(temperature: float, classes: int) -> None:
    samples = draw_samples(temperature, classes)
    people = {case: case for case in samples}
    fit = fit_temperature(list(samples), samples.__getitem__, people, resamples=500, seed=0)
    assert fit.fitted == pytest.approx(temperature, rel=0.05)
    assert fit.is_kept
    assert fit.value == fit.fitted
    assert fit.gain.mean == pytest.approx(fit.likelihoods[0] - fit.likelihoods[1])
    assert fit.errors[1] < 0.03 < fit.errors[0]


def test_it_is_fitted_for_what_the_configs_do() -> None:
    for classes in (1, 3):
        sample = draw_samples(2.0, classes)["c0"]
        scaled = ScaleTemperature(1.7)(sample.prob.double())
        assert torch.allclose(sample.scale(1.7).exp()[-len(scaled) :].double(), scaled, atol=1e-5)


def test_probabilities_that_fit_are_left_alone() -> None:
    samples = draw_samples(1.0, 1)
    fit = fit_temperature(list(samples), samples.__getitem__, {case: case for case in samples}, resamples=500, seed=0)
    assert fit.fitted == pytest.approx(1, abs=0.05)
    assert not fit.is_kept
    assert fit.value == 1
    assert describe_temperature(fit).startswith("temperature: off, ")


def test_what_one_subject_needs_is_not_taken_for_all() -> None:
    """One subject is far too sure and the rest fits: fitted on all, the temperature is above 1; held-out it loses."""
    samples = draw_samples(1.0, 1)
    samples["c0"] = draw_samples(9.0, 1)["c0"]
    fit = fit_temperature(list(samples), samples.__getitem__, {case: case for case in samples}, resamples=500, seed=0)
    assert fit.fitted > 1.1
    assert not fit.is_kept


def test_the_sample_is_the_band() -> None:
    prob = torch.zeros(1, 40, 40)
    prob[0, 10:30, 10:30] = 0.9
    label = (prob > 0).float() * 7  # numbered objects
    sample = take_sample(prob, label)
    assert sample.prob.shape == (1, 160)  # as in the tests of the calibration
    assert sample.truth.tolist().count(1) == 76
    several = torch.cat([1 - prob, prob, prob * 0])
    assert take_sample(several, (prob > 0).float()).prob.shape == (3, 160)
    assert len(take_sample(prob * 0, label * 0).truth) == 0


def test_the_line_of_a_temperature() -> None:
    fit = TemperatureFit(1.62, Difference(0.05, 0.03, 0.08, 13, 13), (0.41, 0.36), (0.1, 0.04))
    assert describe_temperature(fit) == (
        "temperature: on, 1.62: negative log-likelihood per voxel of the band 0.4100, held-out 0.3600; "
        "calibration error 0.1000, held-out 0.0400; gain +0.0500 (0.0300 to 0.0800)"
    )


def test_its_name_is_a_step() -> None:
    assert read_steps("temperature,crf") == ["temperature", "crf"]
    with pytest.raises(InputError, match="did you mean 'temperature'"):
        read_steps("temprature")


def test_tuned_written_and_used(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a low bar, so that the few phantoms pass it: the file holds the temperature, and evaluation uses it."""
    monkeypatch.setattr(TemperatureFit, "is_kept", True)
    result = experiment.tune(tmp_path, capsys, "--steps", "temperature")
    told = result["temperature"]
    assert told["on"]
    assert told["fitted"] == told["value"] != 1
    written = json.loads((tmp_path / "postprocessing.json").read_text())
    assert written["temperature"] == told["value"]
    # Only probabilities change: the labels of a threshold of 0.5 and their score do not.
    rows = {row["name"]: row for row in result["rows"]}
    again = experiment.tune(tmp_path / "plain", capsys, "--steps", "threshold")
    assert (
        rows["others as shipped"]["score"] == {row["name"]: row for row in again["rows"]}["others as shipped"]["score"]
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "temperature=1.5"), "'temperature' is 1.5 already in the configs of"),
        (("--split", "test"), "post-processing is tuned on validation cases only, not on split 'test'"),
    ],
)
def test_refused_in_one_line(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert main(experiment.words(tmp_path, "--steps", "temperature", *words)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
