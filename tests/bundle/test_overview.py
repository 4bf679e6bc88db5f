from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.bundle.overview import list_bundles
from pipeline.commands.cli import main
from tests.bundle.conftest import BUNDLES, read_json


def write_bundle(folder: Path, **metadata: object) -> Path:
    (folder / "configs").mkdir(parents=True)
    network = {"_target_": "pipeline.networks.Special", "spatial_dims": 2}
    train = {"bundle_root": f"bundles/{folder.name}", "network_def": network}
    for name, data in (("metadata.json", metadata), ("train.json", train), ("inference.json", {})):
        (folder / "configs" / name).write_text(json.dumps(data))
    return folder


def test_every_bundle_of_the_repository_is_listed(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    code = main(["bundle", "list", "--json"])
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(entries) == {path.name for path in BUNDLES.iterdir() if path.is_dir()}
    assert code == int(any(entry["problem"] for entry in entries.values()))
    first = entries["lgg_attunet"]
    assert first["network"] == "AttentionUnet"
    assert first["dimensions"] == 2
    assert first["weights"] == "shipped"
    assert first["parameters"] == read_json(BUNDLES / "lgg_attunet/configs/metadata.json")["network_parameters"]
    assert first["train"] == "python -m monai.bundle run --config_file bundles/lgg_attunet/configs/train.json"


def test_the_list_says_what_the_metadata_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "bundles"
    write_bundle(
        folder / "cells",
        task="Segmentation of cells",
        data_source="https://example.org",
        network_parameters=1234567,
        validation_score={"dice": 0.91234, "cases": 13},
    )
    (folder / "cells/large_files.yml").write_text("large_files: []\n")
    write_bundle(folder / "bare")
    (folder / ".hidden").mkdir()
    assert main(["bundle", "list", "--bundles", str(folder)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["bundle", "network", "parameters", "weights", "validation", "score"]
    assert out[1].split() == ["bare", "Special,", "2-D", "-", "none", "-"]
    assert out[2].split("  ")[:1] == ["cells"]
    assert "1,234,567" in out[2]
    assert "to download" in out[2]
    assert out[2].endswith("dice 0.912, cases 13")
    where = folder / "cells"
    assert f"  train   python -m monai.bundle run --config_file {where}/configs/train.json --bundle_root {where}" in out
    assert "cells: Segmentation of cells" in out
    assert "  data    https://example.org" in out


def test_the_list_says_where_the_weights_of_a_training_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = write_bundle(Path("bundles/cells"))
    assert list_bundles(Path("bundles"))[0].predict == ""
    Path("output/cells").mkdir(parents=True)
    Path("output/cells/model.pt").touch()
    assert main(["bundle", "list"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].split("  ")[-2].strip() == "trained here"
    configs = "python -m monai.bundle run --config_file bundles/cells/configs"
    assert out[-1] == f"  predict {configs}/inference.json --checkpoint output/cells/model.pt --input DIR"
    (bundle / "models").mkdir()
    (bundle / "models/model.pt").touch()
    entry = list_bundles(Path("bundles"))[0]
    assert (entry.weights, entry.predict) == ("shipped", out[-1].removeprefix("  predict "))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("metadata.json", None, "cannot read {}: no such file or directory"),
        ("metadata.json", '{"a": 1,}', "{}: line 1 column 9:"),
        ("train.json", "{", "{}: line 1 column 2:"),
        ("inference.json", "[]", "{}: expected a JSON object, got list"),
        ("train.json", "{}", "{}: no network_def with _target_"),
        ("train.json", '{"network_def": {"_target_": 7}}', "{}: no network_def with _target_"),
        ("metadata.json", b"\xff", "{}: byte 0 is not UTF-8"),
    ],
)
def test_a_broken_bundle_is_listed_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | bytes | None, reason: str
) -> None:
    broken = write_bundle(tmp_path / "broken")
    write_bundle(tmp_path / "whole", task="Whole")
    path = broken / "configs" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert main(["bundle", "list", "--bundles", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if line.startswith("broken: "))
    assert f"broken: BROKEN: {reason.format(path)}" in line
    assert "whole: Whole" in out
    entries = {entry.name: entry for entry in list_bundles(tmp_path)}
    assert entries["broken"].problem
    assert not entries["whole"].problem


def test_only_broken_bundles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing").mkdir()
    assert main(["bundle", "list", "--bundles", str(tmp_path)]) == 1
    assert "validation score" not in capsys.readouterr().out


def test_no_folder_of_bundles_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", "list"]) == 1
    error = capsys.readouterr().err
    assert error == (
        f"error: there is no folder bundles in {tmp_path}; type the command in the folder that holds bundles/, or name"
        " it: --bundles DIR\n"
    )
    (tmp_path / "bundles").mkdir()
    assert main(["bundle", "list"]) == 1
    assert "the folder bundles holds no bundle" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "bundles")
    (tmp_path / "bundles").write_text("")
    assert main(["bundle", "list"]) == 1
    assert "cannot read the folder bundles: not a directory" in capsys.readouterr().err
