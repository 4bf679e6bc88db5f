"""What is refused before anything is trained, in one line with what to type; and that works."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.datasets.manifests.manifest_file import read_manifest, write_manifest
from tests.crossval.conftest import BUNDLE, Photographs, Pretence

Command = Callable[..., tuple[int, str, str]]


def follow(err: str, command: Command) -> str:
    """Run the command in a message, and return the manifest that it wrote."""
    found = re.search(r"make a manifest with folds: python -m pipeline (.+), and name it with --manifest", err)
    assert found, err
    words = shlex.split(found[1])
    assert command(*words)[0] == 0
    return words[-1]


def test_a_manifest_without_folds(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = photographs.words(tmp_path / "out")
    words[words.index("--manifest") + 1] = str(photographs.fixed)
    code, _, err = command(*words)
    assert (code, pretence.called) == (1, [])
    assert err.startswith(f"error: {photographs.fixed} has no folds; make a manifest")
    words[words.index("--manifest") + 1] = follow(err, command)
    assert command(*words)[0] == 0


def test_more_folds_than_the_manifest_has(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = photographs.words(tmp_path / "out", "--folds", "7")
    code, _, err = command(*words)
    assert (code, pretence.called) == (1, [])
    assert err.startswith(f"error: {photographs.manifest} has 5 folds, not 7; make a manifest")
    other = follow(err, command)
    assert {case.fold for case in read_manifest(other).cases} == {None, *range(7)}


def test_folds_that_are_no_folds(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = read_manifest(photographs.manifest)
    first, second = (next(case for case in manifest.cases if case.fold == fold) for fold in (0, 1))
    others = [case for case in manifest.cases if case not in (first, second)]
    divided = (replace(first, subject="p"), replace(second, subject="P "))
    fixed = (replace(first, fold=None, split="val"), second)
    for pair, message in ((divided, "subject P  is in the folds 0 and 1"), (fixed, "is a validation case in every")):
        path = write_manifest(replace(manifest, cases=(*pair, *others)), tmp_path / "odd.json")
        words = photographs.words(tmp_path / "out")
        words[words.index("--manifest") + 1] = str(path)
        code, _, err = command(*words)
        assert (code, pretence.called) == (1, [])
        assert message in err
        words[words.index("--manifest") + 1] = follow(err, command)
        assert command(*words, "--folds", "1")[0] == 0
        pretence.called.clear()
        path.unlink()
        (tmp_path / "odd_5_folds.json").unlink()
        shutil.rmtree(tmp_path / "out")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "learning_rat=1"], "--set or --sweep: unknown key learning_rat; did you mean learning_rate?"),
        (["--sweep", "batch_siz=1,2"], "--set or --sweep: unknown key batch_siz; did you mean batch_size?"),
        (["--sweep", "learning_rate=0.1,fast"], "learning_rate expects a number such as 0.001, got 'fast'"),
        (["--set", "fold=1"], "--set fold: crossval sets it itself; leave it out, or choose how many with --folds"),
        (["--set", "output_dir=x"], "--set output_dir: crossval sets it itself; type --output_dir DIR"),
        (["--sweep", "resume=true,false"], "--sweep resume: crossval sets it itself"),
        (["--sweep", "seed=1,2", "--set", "seed=3"], "--sweep seed: --set names it too; leave one out"),
        (["--sweep", "seed"], "--sweep expects KEY=V1,V2, no value empty, got 'seed'; for example --sweep learning"),
        (["--sweep", "seed=1,,2"], "no value empty, got 'seed=1,,2'"),
        (["--sweep", "seed=1,1"], "--sweep seed names 1 twice; leave one out"),
        (["--sweep", "seed=1", "--sweep", "seed=2"], "--sweep names a key twice"),
        (["--set", "seed"], "--set expects ID=VALUE, got 'seed'"),
        (["--hours", "-1"], "--hours expects a number above 0, got -1"),
        (["--hours", "nan"], "--hours expects a number above 0, got nan"),
        (["--cpus_per_fold", "2"], "--cpus_per_fold is for a cluster; add --cluster local, or leave it out"),
        (["--cluster", "local", "--gpus_per_fold", "-1"], "--gpus_per_fold expects a number from 0, got -1"),
        (["--cluster", "local", "--cpus_per_fold", "0"], "--cpus_per_fold expects a number above 0, got 0"),
        (["--config_file", "los.json"], "no file los.json, neither here nor in"),
        (["--config_file", "evaluate.json"], "sets 'output_dir', which crossval sets itself; type --output_dir DIR"),
        (["--dataset_dir", "nowhere"], "nowhere"),
        (["--manifest", "nowhere.json"], "cannot read the manifest nowhere.json: no such file"),
    ],
)
def test_options(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path, more: list[str], message: str
) -> None:
    code, out, err = command(*photographs.words(tmp_path / "out", *more))
    assert (code, out, pretence.called) == (1, "", [])
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "out").exists()


def test_ids_of_the_config_as_options(photographs: Photographs, command: Command, tmp_path: Path) -> None:
    code, _, err = command(*photographs.words(tmp_path / "out", "--max_epochs", "3"))
    assert code == 2
    assert "unknown argument '--max_epochs'; ids of the config are typed --set max_epochs=3" in err
    assert command("crossval", str(BUNDLE), "--folds", "0")[0] == 2


def test_no_ray(
    photographs: Photographs, pretence: Pretence, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    code, _, err = command(*photographs.words(tmp_path / "out", "--cluster", "local"))
    assert (code, pretence.called) == (1, [])
    assert "error: --cluster needs Ray: pip install 'monai-segmentation-suite[cluster]'\n" in err
