"""RunRecord: what run.json says of a run, however it ended."""

import getpass
import hashlib
import json
import socket
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events

from pipeline.handlers import RunRecord
from pipeline.handlers.run.run_record import _describe_device, anonymize
from pipeline.issues import InputError


def build(folder, step=lambda engine, batch: None, **options):
    engine = Engine(step)
    RunRecord(folder, **options).attach(engine)
    return engine


def read(folder, name="run.json"):
    return json.loads((folder / name).read_text())


def test_a_finished_run(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.orig_argv", ["/usr/bin/python3.12", "-m", "monai.bundle", "run", "--name", "two words"])
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    engine = build(tmp_path / "out", seed=7, manifest=manifest, dataset_dir="data")
    engine.state.device = torch.device("cpu")
    engine.run([0, 0], max_epochs=3)
    record = read(tmp_path / "out")
    assert record["status"] == "finished"
    assert record["command"] == "python -m monai.bundle run --name 'two words'"
    assert (record["seed"], record["epochs"], record["max_epochs"], record["device"]) == (7, 3, 3, "cpu")
    assert record["manifest"]["sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert record["versions"]["torch"] == torch.__version__
    assert None not in record["versions"].values()
    assert record["started"].endswith("+00:00")
    assert record["ended"] >= record["started"]
    assert record["duration_seconds"] >= 0
    assert record["processor_seconds"] >= 0
    assert "previous" not in record


def test_it_says_running_while_it_runs(tmp_path):
    engine = build(tmp_path)
    seen = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(read(tmp_path)))
    engine.run([0])
    assert seen[0]["status"] == "running"
    assert seen[0]["ended"] is None


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (ValueError("a broken slice\nat a place"), "failed", "a broken slice"),
        (InputError("no such folder"), "failed", "no such folder"),
        (SystemExit(143), "interrupted", "143"),
        (KeyboardInterrupt(), "interrupted", "KeyboardInterrupt"),
    ],
)
def test_a_run_that_broke_off(tmp_path, error, status, told):
    def step(engine, batch):
        if engine.state.iteration == 3:
            raise error

    with pytest.raises(type(error)):
        build(tmp_path, step).run([0, 0], max_epochs=3)
    record = read(tmp_path)
    assert (record["status"], record["error"], record["epochs"]) == (status, told, 1)


def test_a_killed_run_leaves_the_times_of_its_last_epoch(tmp_path):
    seen = []
    engine = build(tmp_path)
    engine.add_event_handler(Events.EPOCH_STARTED(once=3), lambda: seen.append(read(tmp_path)))
    engine.run([0, 0], max_epochs=3)
    (record,) = seen  # what a kill would leave
    assert (record["status"], record["epochs"], record["ended"]) == ("running", 2, None)
    assert record["processor_seconds"] >= 0


def test_earlier_runs_are_kept(tmp_path):
    for seed in (1, 2, 3):
        build(tmp_path, seed=seed).run([0])
    record = read(tmp_path)
    assert record["seed"] == 3
    assert [earlier["seed"] for earlier in record["previous"]] == [1, 2]
    assert all("previous" not in earlier for earlier in record["previous"])


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_file_that_is_not_ours_is_replaced(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    build(tmp_path).run([0])
    assert "previous" not in read(tmp_path)


def test_a_run_that_was_refused_leaves_the_record_alone(tmp_path):
    engine = Engine(lambda engine, batch: None)

    def refuse():
        raise InputError("in use")

    engine.add_event_handler(Events.STARTED, refuse)
    RunRecord(tmp_path).attach(engine)
    with pytest.raises(InputError):
        engine.run([0])
    assert not (tmp_path / "run.json").exists()


def test_metrics_of_an_evaluation(tmp_path):
    evaluator = build(tmp_path, filename="evaluate.json")
    metrics = {"dice": torch.tensor(0.5), "hd95": float("nan"), "cases": 3, "raw": torch.zeros(2)}
    evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(metrics))
    evaluator.run([0])
    assert read(tmp_path, "evaluate.json")["metrics"] == {"dice": 0.5, "hd95": None, "cases": 3.0}


@pytest.mark.parametrize(
    ("state", "best"),
    [
        ({"best_metric": 0.8, "best_metric_epoch": 4}, {"metric": "val_mean_dice", "value": 0.8, "epoch": 4}),
        ({"best_metric": -1, "best_metric_epoch": -1}, None),
        ({"best_metric": float("nan"), "best_metric_epoch": 1}, None),
        ({}, None),
    ],
)
def test_best_metric_of_a_training(tmp_path, state, best):
    evaluator = Engine(lambda engine, batch: None)
    for name, value in {**state, "key_metric_name": "val_mean_dice"}.items():
        setattr(evaluator.state, name, value)
    build(tmp_path, evaluator=evaluator).run([0])
    assert read(tmp_path)["best"] == best


def test_git_revision_and_dirt(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (tmp_path / "config.json").write_text("{}")
    git("add", ".")
    git("commit", "-m", "first")
    build(tmp_path / "clean", source_dir=tmp_path).run([0])
    (tmp_path / "config.json").write_text("[]")
    build(tmp_path / "dirty", source_dir=tmp_path).run([0])
    revision = git("rev-parse", "HEAD")
    assert read(tmp_path / "clean")["git"] == {"revision": revision, "dirty": False}
    assert read(tmp_path / "dirty")["git"] == {"revision": revision, "dirty": True}


def test_the_config_that_runs_is_recorded_once(tmp_path):
    class ConfigWorkflow:
        parser = SimpleNamespace(
            get=lambda: {"_meta_": {}, "learning_rate": 0.1, "lines": ["$1 + 1"], "path": Path("a")}
        )

        def run(self):
            build(tmp_path).run([0])

    ConfigWorkflow().run()
    type("Audited", (ConfigWorkflow,), {})().run()
    record = read(tmp_path)
    assert record["config"] == {"learning_rate": 0.1, "lines": ["$1 + 1"], "path": "a"}
    assert ["config" in earlier for earlier in record["previous"]] == [False]
    build(tmp_path / "alone").run([0])
    assert read(tmp_path / "alone")["config"] is None


def test_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    build(tmp_path).run([0])
    assert read(tmp_path)["git"] is None


def test_user_and_host_are_not_named(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    monkeypatch.setattr(socket, "gethostname", lambda: "lab-7")
    record = {"paths": ["/home/ada/data", "/scratch/ada/x", "/data/adams"], "device": "cpu on lab-7", "seed": 1}
    assert anonymize(record) == {
        "paths": ["~/data", "/scratch/USER/x", "/data/adams"],
        "device": "cpu on HOST",
        "seed": 1,
    }


def test_a_user_without_a_name(monkeypatch):
    def fail():
        raise KeyError("uid not found")

    monkeypatch.setattr(getpass, "getuser", fail)
    assert anonymize("/data/x") == "/data/x"


def test_device_names(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Test")
    assert _describe_device(torch.device("cuda:0")) == "cuda:0 (NVIDIA Test)"
    assert _describe_device(None) is None


def test_a_package_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.handlers.run.run_record._PACKAGES", {"nothing": "no-such-distribution"})
    build(tmp_path).run([0])
    assert read(tmp_path)["versions"]["nothing"] is None


@pytest.mark.parametrize("error", [None, ValueError("the real cause")])
def test_a_record_that_cannot_be_written_does_not_change_how_the_run_ends(tmp_path, caplog, error):
    def step(engine, batch):
        (tmp_path / "run.json").unlink()
        (tmp_path / "run.json").mkdir()
        if error:
            raise error

    with pytest.raises(ValueError, match="the real cause") if error else nullcontext():
        build(tmp_path, step).run([0])
    assert "the record of this run is incomplete" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_record_that_cannot_be_written_at_the_start_is_told_in_one_line(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(InputError, match=r"run\.json cannot be written: Is a directory$"):
        build(tmp_path).run([0])


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.handlers.run.run_record.idist", SimpleNamespace(get_rank=lambda: 1))
    build(tmp_path / "out").run([0])
    assert not (tmp_path / "out").exists()
