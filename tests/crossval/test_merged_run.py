"""The folder of a cross-validation is a run folder: record, pictures, report and comparison as of an evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser

from pipeline.bundle.audit import Allowances
from pipeline.bundle.running.plan import make_plan
from pipeline.runs.case_slices import list_slices
from tests.crossval.conftest import BUNDLE, Photographs, Pretence

Command = Callable[..., tuple[int, str, str]]


def test_record_and_pictures(photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert command(*photographs.words(out))[0] == 0
    record = json.loads((out / "evaluate.json").read_text())
    assert (record["schema"], record["status"], record["seed"]) == (1, "finished", 0)
    assert record["config"]["fold"] == "all"
    assert record["config"]["checkpoint"] == "fold_*/model.pt"
    fold = record["crossval"]["folds"][3]
    assert (fold["checkpoint"], fold["n_cases"], fold["ended"], fold["best_epoch"]) == (
        "fold_3/model.pt",
        2,
        "epochs",
        1,
    )
    assert fold["sha256"] == hashlib.sha256(b"weights of fold 3").hexdigest()
    assert fold["metrics"]["dice_image"] == pytest.approx(0.805)
    assert record["metrics"]["dice_image"] == pytest.approx(0.705)
    pictures = list_slices(out)
    assert set(pictures) == {case for fold in range(5) for case in photographs.list_cases(fold)}
    assert not list(out.glob(".crossval-*"))
    assert command("report", str(out), "-o", str(tmp_path / "page.html"))[0] == 0
    page = (tmp_path / "page.html").read_text()
    worst = photographs.list_cases(0)[0]
    assert "<strong>worst</strong>" in page
    assert worst in page


def test_merging_again_replaces_everything(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert command(*photographs.words(out, "--folds", "2"))[0] == 0
    (out / ".crossval-left").mkdir()
    (out / ".crossval-left/metrics.csv").touch()
    assert command(*photographs.words(out))[0] == 0
    assert len(list_slices(out)) == 10
    assert not list(out.glob(".crossval-*"))


def test_comparison_of_two(photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path) -> None:
    for name, rate in (("a", "0.001"), ("b", "0.1")):
        assert command(*photographs.words(tmp_path / name, "--set", f"learning_rate={rate}"))[0] == 0
    code, out, _ = command("report", "compare", f"A={tmp_path}/a", f"B={tmp_path}/b")
    assert code == 0
    assert "+0.0990" in out
    assert "config of A -> B: 1 difference\n  learning_rate: 0.001 -> 0.1" in out
    assert command(*photographs.words(tmp_path / "c", "--folds", "3"))[0] == 0
    code, _, err = command("report", "compare", f"{tmp_path}/a", f"{tmp_path}/c")
    assert code == 1
    assert "cases of dice_image differ" in err


@pytest.fixture
def ensemble(photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path) -> Path:
    """The folder of a cross-validation of a small network."""
    more = ["--set", "image_size=[32,32]", "--set", "network_def#features=[4,4,4,4,4,4]", "--set", "max_epochs=3"]
    code, out, _ = command(*photographs.words(tmp_path / "out", "--folds", "3", *more))
    assert code == 0
    path = tmp_path / "out/ensemble.json"
    assert f"ensemble: python -m pipeline predict {BUNDLE} IMAGES -o masks --config_file {path}" in out
    return tmp_path / "out"


def open_config(files: list[Path]) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser["bundle_root"], parser["flips"], parser["amp"] = str(BUNDLE), [], False
    parser["device"] = "$torch.device('cpu')"
    return parser


def predict(files: list[Path], place: str, image: torch.Tensor) -> torch.Tensor:
    """Return probabilities as the evaluator of some configs computes them; the network itself says 0 everywhere."""
    parser = open_config(files)
    network = parser.get_parsed_content("network").eval()
    inferer = parser.get_parsed_content(f"{place}#inferer")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        return torch.as_tensor(inferer(image, network)).sigmoid()


@pytest.mark.parametrize(
    ("name", "own", "place"),
    [
        ("ensemble.json", ["inference.json"], "evaluator"),
        ("ensemble_evaluate.json", ["train.json", "evaluate.json"], "validate#evaluator"),
    ],
)
def test_the_ensemble_is_the_mean_of_the_folds(ensemble: Path, name: str, own: list[str], place: str) -> None:
    files = [*(BUNDLE / "configs" / config for config in own), ensemble / name]
    network = open_config(files).get_parsed_content("network_def")
    assert sum(parameter.numel() for parameter in network.parameters()) < 20_000, "the small one"
    image = torch.rand(1, 3, 32, 32)
    alone = []
    for fold in range(3):
        torch.manual_seed(fold)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        torch.save(network.state_dict(), ensemble / f"fold_{fold}/model.pt")
        with torch.no_grad():
            alone.append(network.eval()(image).sigmoid())
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)
    torch.testing.assert_close(predict(files, place, image), torch.stack(alone).mean(0), rtol=1e-5, atol=1e-6)
    for fold in (0, 1):  # all are the last one
        (ensemble / f"fold_{fold}/model.pt").write_bytes((ensemble / "fold_2/model.pt").read_bytes())
    torch.testing.assert_close(predict(files, place, image), alone[2], rtol=1e-5, atol=1e-6)


def test_the_ensemble_is_an_override_that_the_audit_passes(ensemble: Path) -> None:
    for name, own in (("ensemble.json", ["inference"]), ("ensemble_evaluate.json", ["train", "evaluate"])):
        plan = make_plan(BUNDLE, [*own, str(ensemble / name)], [], Allowances())
        assert plan.refused == []
        content = json.loads((ensemble / name).read_text())
        assert content["checkpoints"] == [str(ensemble / f"fold_{fold}/model.pt") for fold in range(3)]
        assert ("max_epochs" in content) == ("train" in own), "what inference.json does not know is left out"
        assert content["image_size"] == [32, 32]
        assert not {"dataset_dir", "manifest", "output_dir"} & content.keys()


def test_a_bundle_without_an_ensemble(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path
) -> None:
    bundle = tmp_path / "plain"
    (bundle / "configs").mkdir(parents=True)
    for name in ("train.json", "evaluate.json", "inference.json", "metadata.json"):
        (bundle / "configs" / name).write_bytes((BUNDLE / "configs" / name).read_bytes())
    words = photographs.words(tmp_path / "out", "--folds", "1")
    words[1] = str(bundle)
    place = words.index("--config_file")
    del words[place : place + 2]
    code, out, _ = command(*words)
    assert code == 0
    assert "ensemble" not in out


def test_the_key_metric_is_told(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = Pretence._evaluate

    def add_table(self: Pretence, folder: Path, fold: int, options: dict[str, str]) -> None:
        evaluate(self, folder, fold, options)
        (folder / "area_image_raw.csv").write_bytes((folder / "dice_image_raw.csv").read_bytes())

    monkeypatch.setattr(Pretence, "_evaluate", add_table)
    code, out, err = command(*photographs.words(tmp_path / "out"))
    assert code == 0
    assert out.startswith(f"{tmp_path}/out: dice_image 0.7050"), "the first of metrics.csv, not of the alphabet"
    assert "fold 0: dice_image 0.5050" in err
