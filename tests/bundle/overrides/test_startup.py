"""`StartupCheck` in runs: what it reads from the call stack, what it refuses and changes, and whom it leaves alone."""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fire
import monai.bundle
import pytest
import torch
from monai.bundle import ConfigWorkflow, create_workflow
from monai.metrics import compute_hausdorff_distance

from pipeline.bundle import StartupCheck
from pipeline.bundle.overrides.command_line import Run, find_run
from pipeline.bundle.overrides.startup import check_files, keep_config_texts, read_overrides
from tests.bundle.overrides.typing_lines import ROOT
from tests.bundles.conftest import NAMES
from tests.forked import run_module
from tests.one_line import expect_line

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")
COMBINATIONS = (
    *("train evaluate phantom", "train evaluate refine tta phantom", "train evaluate postprocessing", "train paper"),
    *("train multi_gpu_train phantom", "train losses", "train origin", "train evaluate origin"),
    *("train swanlab phantom", "train multi_gpu_train swanlab phantom"),
    *("inference refine tta ensemble phantom", "inference postprocessing", "inference phantom"),
    *("train resnet34", "train resnet34 losses", "train evaluate resnet34 refine", "inference resnet34 refine"),
)
# What a run gets, instead of a training.
SEEN: dict[str, Any] = {}
CONFIG = {
    "bundle_root": "bundles/tiny",
    "output_dir": "$@bundle_root + '/output'",
    "input": "data",
    "checkpoints": ["a.pt"],
    "note": "exp#3 of 4",
    "resume": False,
    "rate": 0.1,
    "train": {"data": {"_target_": "CacheDataset", "data": [], "transform": None, "copy_cache": False}},
    "seen": {
        "_target_": "tests.bundle.overrides.test_startup.keep",
        **{key: f"@{key}" for key in ("bundle_root", "output_dir", "input", "checkpoints", "note", "resume", "rate")},
        "copy_cache": "@train#data#copy_cache",
    },
    "initialize": [
        {"_target_": "pipeline.bundle.StartupCheck"},
        {"_target_": "tests.bundle.overrides.test_startup.begin"},
    ],
    "run": ["@seen"],
}  # fmt: skip


def keep(**values: Any) -> None:
    SEEN.update(values)


def begin() -> None:
    SEEN["began"] = True


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle in the folder ``bundles`` of the working directory, which builds nothing."""
    SEEN.clear()
    monkeypatch.chdir(tmp_path)
    return write_bundle(tmp_path / "bundles/tiny")


def write_bundle(folder: Path) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs/train.json").write_text(json.dumps(CONFIG))
    (folder / "configs/more.json").write_text(json.dumps({"extra": 1}))
    (folder / "configs/metadata.json").write_text("{}")
    return folder


def type_run(bundle: Path | str, *options: str, configs: str = "") -> dict[str, Any]:
    """Run the command line in this process, as ``python -m monai.bundle run`` does."""
    files = configs or f"{bundle}/configs/train.json"
    line = ["run", "--config_file", files, *options, "--logging_file", "False"]
    fire.Fire({"run": monai.bundle.run}, line)
    return SEEN


@pytest.mark.parametrize(
    ("key", "word", "seen"),
    [
        ("output_dir", "20240901", "20240901"),
        ("output_dir", "007", "007"),
        ("output_dir", "1e3", "1e3"),
        ("output_dir", "exp#3", "exp#3"),
        ("output_dir", "runs/exp#3/x", "runs/exp#3/x"),
        ("output_dir", "$'a' + 'b'", "ab"),
        ("output_dir", "@input", "data"),
        ("output_dir", "./$scratch", "./$scratch"),
        ("output_dir", "./%x", "./%x"),
        ("input", "T1,T2", "T1,T2"),
        ("input", "user@host", "user@host"),
        ("input", "Müller, Ärzte (2)", "Müller, Ärzte (2)"),
        ("checkpoints", "['a#1.pt','@input']", ["a#1.pt", "data"]),
        ("resume", "true", True),
        ("rate", "1", 1),
        ("train#data#copy_cache", "true", True),
    ],
)
def test_what_was_typed_is_what_the_run_gets(bundle: Path, key: str, word: str, seen: object) -> None:
    result = type_run("bundles/tiny", f"--{key}", word)
    assert result[key.rpartition("#")[2]] == seen
    assert result["bundle_root"] == "bundles/tiny"
    assert result["note"] == "exp#3 of 4", "MONAI alone makes it exp::3"


def test_without_options_nothing_changes(bundle: Path) -> None:
    assert type_run("bundles/tiny")["output_dir"] == "bundles/tiny/output"
    assert (SEEN["resume"], SEEN["rate"], SEEN["copy_cache"], SEEN["began"]) == (False, 0.1, False, True)


def test_the_bundle_is_the_one_whose_config_was_named(bundle: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(bundle, tmp_path / "my #1, $copy/tiny")
    for place, typed in ((tmp_path, copied), (copied, copied), (bundle, "../../my #1, $copy/tiny")):
        os.chdir(place)
        assert type_run(typed)["output_dir"] == f"{typed}/output"
    os.chdir(copied)
    assert type_run(".")["output_dir"] == "./output"


def test_a_root_that_was_given_stays(bundle: Path, tmp_path: Path) -> None:
    assert type_run("bundles/tiny", "--bundle_root", "elsewhere")["output_dir"] == "elsewhere/output"
    (tmp_path / "mine.json").write_text('{"bundle_root": "there"}')
    files = "['bundles/tiny/configs/train.json','mine.json']"
    assert type_run(bundle, configs=files)["output_dir"] == "there/output"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--rat", "1"], "unknown key rat; did you mean rate?"),
        (["--rate", "fast"], "rate expects a number such as 0.1, got 'fast'"),
        (["--resume", "maybe"], "resume expects true or false, got 'maybe'"),
        (["--output_dir", "--resume", "true"], "output_dir expects a text such as a path, got True"),
        (["--extra", "2"], "unknown key extra; it is a key of more.json, which is not for this run"),
        (["bundles/tiny/configs/more.json"], "run_id 'bundles/tiny/configs/more.json' is no id of the config; "),
        (["--run_id", "runn"], "run_id 'runn' is no id of the config; leave it out: the default is run"),
        (["--input", "None"], "input expects a text such as 'data', got 'None'"),
    ],
)  # fmt: skip
def test_a_wrong_line_ends_before_anything_begins(bundle: Path, options: list[str], line: str) -> None:
    with expect_line() as lines:
        type_run("bundles/tiny", *options)
    assert lines[0].startswith(line)
    assert SEEN == {}


def test_the_hint_about_several_configs_works(bundle: Path) -> None:
    with expect_line("several configs are given as --config_file"):
        type_run("bundles/tiny", "bundles/tiny/configs/more.json")
    files = "['bundles/tiny/configs/train.json','bundles/tiny/configs/more.json']"
    assert type_run("bundles/tiny", "--extra", "2", configs=files)["began"]


def test_the_summary_shows_what_was_meant(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="monai.bundle.scripts"):
        type_run("bundles/tiny", "--output_dir", "exp#3")
    assert "> output_dir: 'exp#3'" in caplog.text


def test_calls_in_python_are_checked_too(bundle: Path) -> None:
    options: dict[str, Any] = {"config_file": "bundles/tiny/configs/train.json", "logging_file": False}
    monai.bundle.run(**options, output_dir=2024, resume="true", rate=None)
    assert (SEEN["output_dir"], SEEN["resume"], SEEN["rate"]) == ("2024", True, 0.1)
    with expect_line("unknown key rat; did you mean rate"):
        monai.bundle.run(**options, rat=1)
    with expect_line("input expects a text such as 'data', got \\['a', 'b'\\]"):
        create_workflow(**options, input=["a", "b"])


def test_an_args_file_is_checked_too(bundle: Path, tmp_path: Path) -> None:
    args = {"config_file": "bundles/tiny/configs/train.json", "logging_file": False, "output_dir": "a#b"}
    (tmp_path / "args.json").write_text(json.dumps(args))
    monai.bundle.run(args_file="args.json")
    assert SEEN["output_dir"] == "a#b"
    (tmp_path / "args.json").write_text(json.dumps({**args, "rat": 1}))
    with expect_line("unknown key rat"):
        monai.bundle.run(args_file="args.json")


def test_arguments_of_tracking_are_known(bundle: Path, tmp_path: Path) -> None:
    settings = {"handlers_id": {}, "configs": {"experiment": "mine"}}
    (tmp_path / "tracking.json").write_text(json.dumps(settings))
    assert type_run("bundles/tiny", "--tracking", "tracking.json", "--experiment", "other")["began"]
    with expect_line("unknown key experimnt; did you mean experiment"):
        type_run("bundles/tiny", "--tracking", "tracking.json", "--experimnt", "other")


def test_clients_that_use_the_workflow_itself_are_left_alone(bundle: Path) -> None:
    """`MonaiAlgo` and others make a `ConfigWorkflow` and set ``bundle_root`` by themselves."""
    workflow = ConfigWorkflow(config_file=str(bundle / "configs/train.json"), logging_file=False, rat=1)
    workflow.initialize()
    workflow.run()
    assert SEEN["bundle_root"] == "bundles/tiny"
    StartupCheck()
    assert find_run() is None


def test_of_several_processes_one_speaks(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as caught:
        type_run("bundles/tiny", "--rat", "1")
    assert (caught.value.code, SEEN, len(waited)) == (1, {}, 1)


def test_the_answer_of_a_process_is_short_and_comes_first(tmp_path: Path) -> None:
    """At most five lines before it, exit code 1, no folder made."""
    config = ROOT / "bundles/lgg_unet/configs/train.json"
    words = ["--config_file", str(config), "--dataset_dir", "nowhere", "--learning_rat", "0.5"]
    done = run_module("monai.bundle", "run", *words, cwd=tmp_path)
    assert done.returncode == 1
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert lines[-1] == "unknown key learning_rat; did you mean learning_rate?"
    assert len(lines) <= 6
    assert list(tmp_path.iterdir()) == []


def test_the_check_takes_well_under_a_second(bundle: Path) -> None:
    from tests.bundle.overrides.typing_lines import type_line

    started = time.process_time()
    options = ("--learning_rate", "0.1", "--max_epochs", "3", "--output_dir", "a", "--network_def#dropout", "0.1")
    assert type_line("lgg_unet", "train", *options).find_issues() == []
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"rat": 1}, "mine.json: unknown key rat; did you mean rate?"),
        ({"rate": "fast"}, "mine.json: rate expects a number such as 0.1, got 'fast'"),
        ({"train#data#copy_cach": True}, "mine.json: CacheDataset takes no argument copy_cach (train#data); did you "),
        ({"rate": "@seeed"}, "mine.json: rate: there is no id seeed that '@seeed' could refer to"),
    ],
)
def test_a_config_of_ones_own_is_checked(bundle: Path, content: dict[str, Any], line: str) -> None:
    Path("mine.json").write_text(json.dumps(content))
    with expect_line() as lines:
        type_run(bundle, configs="['bundles/tiny/configs/train.json','mine.json']")
    assert lines[0].startswith(line)
    assert SEEN == {}


@pytest.mark.parametrize("name", NAMES)
def test_no_combination_of_the_suites_configs_is_refused(name: str) -> None:
    folder = ROOT / "bundles" / name / "configs"
    for configs in COMBINATIONS:
        files = [path for config in configs.split() if (path := folder / f"{config}.json").is_file()]
        run = Run(SimpleNamespace(config_root_path=folder), tuple(map(str, files)), {})
        overrides = read_overrides(run)
        assert check_files(run, overrides) == [], configs
        assert keep_config_texts(overrides.base) == {}, configs


def test_a_config_of_ones_own_may_bring_keys(bundle: Path) -> None:
    content = {"_desc_": "mine", "note_of_mine": 3, "half": 0.05, "rate": "@half", "+checkpoints": ["b#2.pt"]}
    Path("mine.json").write_text(json.dumps(content))
    seen = type_run(bundle, configs="['bundles/tiny/configs/train.json','mine.json']")
    assert (seen["rate"], seen["checkpoints"]) == (0.05, ["a.pt", "b#2.pt"])


def test_a_device_that_is_not_there_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {**CONFIG, "device": "$torch.device('cpu')"}
    (bundle / "configs/train.json").write_text(json.dumps(content))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with expect_line("torch finds no GPU here, so that device cuda:1 does not exist"):
        type_run(bundle, "--device", "cuda:1")
    assert type_run(bundle, "--device", "cpu")["began"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert type_run(bundle, "--device", "cuda:1")["began"]
    with expect_line("torch finds 2 GPUs here, so that device cuda:2 does not exist"):
        type_run(bundle, "--device", "cuda:2")


def test_the_configs_folder_may_be_the_working_directory(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bundle / "configs")
    monai.bundle.run(config_file="train.json", logging_file=False)
    assert SEEN["output_dir"] == "../output"


def test_warnings_that_nobody_can_act_on_are_silent(bundle: Path) -> None:
    cube = torch.zeros(1, 1, 8, 8, 8)
    cube[..., 2:6, 2:6, 2:6] = 1
    with pytest.warns(FutureWarning, match="get_mask_edges"):  # MONAI still gives it: else remove its filter
        compute_hausdorff_distance(cube, cube)
    type_run(bundle)
    with warnings.catch_warnings(record=True) as given:  # keeps the filters of the run
        compute_hausdorff_distance(cube, cube)
    assert not given
