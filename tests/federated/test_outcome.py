"""The best weights of a federation as a bundle."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import pytest
import torch

from pipeline.federated.job import Plan, write_job
from pipeline.federated.outcome import average, read_outcome, write_bundle
from pipeline.federated.sites import Site
from pipeline.issues import InputError
from pipeline.reports.run_summary import read_scores
from pipeline.weights import read_plain

PLACES = {"dataset_dir": "/data/{site}", "manifest": "/data/{site}.json", "output_dir": "/out/{site}"}
LAST, BEST = "FL_global_model.pt", "best_FL_global_model.pt"


@pytest.fixture
def finish(bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write what the server of a finished federation holds."""

    def write(scores: dict[str, Any], weights: dict[str, float] | None = None) -> Path:
        plan = Plan(bundle, ("north", "south"), 2, 1, ("train.json", "tiny.json"))
        job = write_job(plan, tmp_path / "federation", PLACES)
        run = tmp_path / "federation/simulation/server/simulate_job"
        shutil.copytree(job / "app_server", run / "app_server")
        first = read_plain(job / "app_server/models/initial.pt")
        for name, shift in (weights or {LAST: 0.5, BEST: 0.25}).items():
            # As NVFlare writes them: averages are floats, and the config stands beside them.
            model = {key: value.double() + shift for key, value in first.items()}
            torch.save({"model": model, "train_conf": {"train": {"model": "x"}}}, run / "app_server/models" / name)
        (run / "cross_site_val").mkdir()
        (run / "cross_site_val/cross_val_results.json").write_text(json.dumps(scores))
        (run / "metrics").mkdir()
        rounds = [
            {"round": number, "aggregated_metrics": [{"name": "dice_image", "value": value}]}
            for number, value in enumerate((0.1, 0.4))
        ]
        (run / "metrics/round_metrics.jsonl").write_text("".join(json.dumps(item) + "\n" for item in rounds))
        return tmp_path / "federation"

    return write


def make_scores(last: tuple[float, float], best: tuple[float, float]) -> dict[str, Any]:
    return {
        site: {
            f"SRV_{name}": {"dice_image": values[place], "cases": cases}
            for name, values in ((LAST, last), (BEST, best))
        }
        for place, (site, cases) in enumerate((("north", 9), ("south", 1)))
    }


@pytest.mark.parametrize(
    ("last", "best", "chosen", "mean"),
    [
        ((0.5, 1.0), (0.6, 0.2), BEST, 0.56),  # north has nine of the ten cases
        ((0.6, 0.2), (0.5, 1.0), LAST, 0.56),
        ((0.5, 0.5), (0.5, 0.5), LAST, 0.5),
    ],
)
def test_the_better_weights_by_the_cases_of_all_sites(
    finish: Callable[..., Path], last: tuple[float, float], best: tuple[float, float], chosen: str, mean: float
) -> None:
    result = read_outcome(finish(make_scores(last, best)))
    assert (result.weights.name, result.missing, result.rounds) == (chosen, [], (0.1, 0.4))
    assert result.mean == pytest.approx(mean)


def test_the_bundle_has_the_weights_and_says_where_they_come_from(
    finish: Callable[..., Path], bundle: Path, tmp_path: Path
) -> None:
    folder = finish(make_scores((0.1, 0.1), (0.6, 0.2)))
    target = write_bundle(read_outcome(folder), bundle, tmp_path / "new")
    first = read_plain(folder / "job/app_server/models/initial.pt")
    weights = read_plain(target / "models/model.pt")
    assert weights.keys() == first.keys()
    for name, value in weights.items():
        assert value.dtype == first[name].dtype
        if value.is_floating_point():
            assert torch.allclose(value, first[name] + 0.25)
    record = json.loads((target / "docs/federated.json").read_text())
    assert (record["sites"], record["rounds"], record["weights"]) == (["north", "south"], 2, BEST)
    assert record["scores"]["south"] == {"dice_image": 0.2, "cases": 1}
    assert record["scores_before_each_round"] == [0.1, 0.4]
    metadata = json.loads((target / "configs/metadata.json").read_text())
    assert metadata["validation_score"] == "federated: dice_image 0.560 (10 validation cases of 2 sites)"
    assert (target / "docs/README.md").read_text().startswith("> **Weights of a federation**: trained at 2 sites")
    for name in ("train.json", "inference.json", "evaluate.json", "tiny.json"):
        assert (target / "configs" / name).read_bytes() == (bundle / "configs" / name).read_bytes()


def test_the_bundle_evaluates(
    finish: Callable[..., Path], bundle: Path, tmp_path: Path, make_site: Callable[..., Site]
) -> None:
    target = write_bundle(read_outcome(finish(make_scores((0.1, 0.1), (0.6, 0.2)))), bundle, tmp_path / "new")
    site = make_site()
    monai.bundle.run(
        config_file=[str(target / "configs" / name) for name in ("train.json", "evaluate.json", "tiny.json")],
        bundle_root=str(target),
        dataset_dir=str(site.dataset_dir),
        manifest=str(site.manifest),
        output_dir=str(tmp_path / "evaluate"),
        logging_file=False,
    )
    assert len(read_scores(tmp_path / "evaluate/dice_image_raw.csv")) == 2


def test_weights_of_another_network(finish: Callable[..., Path], bundle: Path, tmp_path: Path) -> None:
    folder = finish(make_scores((0.1, 0.1), (0.6, 0.2)))
    other = tmp_path / "other"
    shutil.copytree(bundle, other)
    (other / "configs/tiny.json").write_text(json.dumps({"network_def#features": [8, 4, 4, 4, 4, 4]}))
    with pytest.raises(InputError, match=r"does not fit the network of .*other .*name the bundle .*, isic_unet"):
        write_bundle(read_outcome(folder), other, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    write_bundle(read_outcome(folder), bundle, tmp_path / "new")  # the hint


def test_damaged_weights(finish: Callable[..., Path], bundle: Path, tmp_path: Path) -> None:
    result = read_outcome(finish(make_scores((0.1, 0.1), (0.6, 0.2))))
    result.weights.write_bytes(result.weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"best_FL_global_model\.pt is"):
        write_bundle(result, bundle, tmp_path / "new")


def test_sites_that_have_not_answered(finish: Callable[..., Path]) -> None:
    scores = make_scores((0.1, 0.1), (0.6, 0.2))
    scores["south"] = {f"SRV_{LAST}": {}, f"SRV_{BEST}": {}}
    result = read_outcome(finish(scores))
    assert result.missing == ["south"]
    assert result.mean == pytest.approx(0.6)


def test_a_federation_that_was_stopped_in_a_later_round(finish: Callable[..., Path]) -> None:
    result = read_outcome(finish({}))
    assert (result.weights.name, result.missing, result.mean) == (BEST, ["north", "south"], None)


def test_folders_without_a_result(finish: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        read_outcome(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="was the job written by federated new"):
        read_outcome(tmp_path / "empty")
    folder = finish({})
    for name in (LAST, BEST):
        (folder / "simulation/server/simulate_job/app_server/models" / name).unlink()
    with pytest.raises(InputError, match="the server has no weights yet"):
        read_outcome(folder)


def test_the_mean_counts_cases() -> None:
    assert average({}, "dice") is None
    assert average({"a": {"dice": 1.0, "cases": 3}, "b": {"dice": 0.0, "cases": 1}}, "dice") == 0.75
