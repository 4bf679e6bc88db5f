"""Two bundles compared: each difference stands in its part of the experiment, once."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from pipeline.bundle.check.differences import compare_bundles
from pipeline.commands.cli import main
from pipeline.issues import InputError
from tests.bundles.conftest import ROOT


@pytest.fixture
def pair(tmp_path):
    """A bundle and a copy of it, both without weights."""
    first = tmp_path / "first"
    source = ROOT / "bundles/isic_unet"
    shutil.copytree(source, first, ignore=shutil.ignore_patterns("models", "output"))
    return first, shutil.copytree(first, tmp_path / "second")


def edit(bundle: Path, name: str, change) -> None:
    path = bundle / "configs" / name
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_equal_bundles_do_not_differ_whatever_their_format(pair):
    first, second = pair
    edit(second, "train.json", lambda config: None)  # other line breaks
    edit(second, "train.json", lambda config: config["train"]["dataset"].update(_desc_="a remark"))
    assert compare_bundles(first, second) == []


def test_every_difference_stands_in_its_section(pair):
    first, second = pair

    def change(config):
        config["network_def"]["features"][0] = 16
        config["loss"]["_target_"] = "FocalLoss"
        config["optimizer"]["weight_decay"] = 0.5
        config["learning_rate"] = 7
        config["validate"]["key_metric"] = {}
        chain = config["train"]["augmentation"]
        del chain[next(k for k, step in enumerate(chain) if step["_target_"] == "RandGaussianNoised")]
        next(step for step in chain if step["_target_"] == "RandAffined")["prob"] = 0.125

    edit(second, "train.json", change)
    edit(second, "inference.json", lambda config: config["network_def"]["features"].__setitem__(0, 16))
    edit(second, "metadata.json", lambda config: config.update(version="9.9.9"))
    (second / "models").mkdir()
    (second / "models/model.pt").write_bytes(b"weights")
    found = compare_bundles(first, second)
    lines = {item.section: [] for item in found}
    for item in found:
        lines[item.section].append(item.one_line())
    order = ["network", "loss", "optimisation", "augmentation", "metrics", "settings", "metadata", "weights"]
    assert list(lines) == order
    assert lines["network"] == [
        "network_def#features: [32, 64, 128, 256, 512, 32] -> [16, 64, 128, 256, 512, 32] (inference.json, train.json)"
    ]
    assert "train#augmentation#RandAffined#prob: 0.8 -> 0.125 (train.json)" in lines["augmentation"]
    assert any("RandGaussianNoised: removed RandGaussianNoised(" in line for line in lines["augmentation"])
    assert lines["metadata"] == ["version: 0.1.0 -> 9.9.9 (metadata.json)"]
    assert lines["weights"][0].startswith("models/model.pt: added sha256 ")


def test_an_archive_is_compared_like_a_folder(pair, tmp_path, capsys):
    first, second = pair
    edit(second, "train.json", lambda config: config.update(max_epochs=3))
    with zipfile.ZipFile(tmp_path / "second.zip", "w") as archive:
        for path in second.rglob("*"):
            if path.is_file():
                archive.write(path, path.relative_to(second.parent))
    assert compare_bundles(first, tmp_path / "second.zip") == compare_bundles(first, second)
    assert main(["bundle", "diff", str(first), str(tmp_path / "second.zip"), "--json"]) == 0
    (item,) = json.loads(capsys.readouterr().out)
    assert (item["section"], item["place"], item["second"]) == ("settings", "max_epochs", "3")


def test_what_is_not_a_bundle_is_said_in_one_line(pair, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is not a bundle; expected a folder or a zip file with configs/ in it"):
        compare_bundles(pair[0], tmp_path / "empty")
    (pair[1] / "configs/train.json").write_text("{")
    with pytest.raises(InputError, match=r"configs/train\.json"):
        compare_bundles(*pair)
