"""What `pipeline bundle check` finds in the suite's bundles, which are right, and in copies with one fault each."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.bundle.check.bundle_check import check_bundle
from pipeline.bundle.check.whole_configs import Configs
from pipeline.commands.cli import main
from pipeline.issues import InputError, Issue
from tests.bundles.conftest import BUNDLES, FAMILIES, ROOT


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A bundle without its weights, which are not looked at."""
    target = tmp_path_factory.mktemp("check") / "hippocampus_segresnet"
    shutil.copytree(ROOT / "bundles" / target.name, target, ignore=shutil.ignore_patterns("models", "output"))
    return target


@pytest.fixture
def bundle(original, tmp_path):
    return shutil.copytree(original, tmp_path / original.name)


def change(bundle: Path, name: str, *path: str | int, value: object) -> None:
    file = bundle / "configs" / name
    config = json.loads(file.read_text())
    item = config
    for key in path[:-1]:
        item = item[key]
    if value is None:
        del item[path[-1]]
    else:
        item[path[-1]] = value
    file.write_text(json.dumps(config))


def find(bundle: Path) -> Issue:
    """Return the only error, apart from what follows from it."""
    errors = [issue for issue in check_bundle(bundle) if issue.severity == "error"]
    (issue,) = [issue for issue in errors if issue.code not in ("drift", "channels")] or errors
    return issue


@pytest.mark.parametrize(
    "bundle",
    [pytest.param(path, id=path.name, marks=[] if path.name in FAMILIES else pytest.mark.slow) for path in BUNDLES],
)
def test_the_bundles_of_the_suite_are_clean(bundle):
    assert check_bundle(bundle) == []


@pytest.mark.parametrize(
    ("name", "path", "value", "code", "words"),
    [
        ("train.json", ("network_def", "init_filter"), 8, "unknown-argument", "did you mean init_filters?"),
        ("train.json", ("loss", "_target_"), "DiceCELos", "unknown-target", "did you mean 'DiceCELoss'?"),
        ("train.json", ("train", "trainer", "optimizer"), "@optimzer", "unknown-reference", "did you mean @optimizer?"),
        ("train.json", ("network",), "$@network_def.to(@device", "broken-expression", "is no expression of Python"),
        ("train.json", ("initialize", 2), "$os.mkdir('a')", "broken-expression", "nothing defines os"),
        ("train.json", ("train", "handlers", 0, "lr_scheduler"), "%scheduler", "unknown-reference", "'%scheduler'"),
        ("train.json", ("optimizer", "params"), None, "missing-argument", "needs the argument params"),
        ("train.json", ("train", "trainer", "_target_"), "pipeline.Trainer", "unknown-target", "pipeline.Trainer"),
        ("evaluate.json", ("validate#handlers", 0, "lod_path"), "a", "unknown-argument", "did you mean load_path?"),
        ("evaluate.json", ("validate#datset#cache_rate",), 0.0, "unknown-key", "did you mean dataset?"),
        ("tta.json", ("flip",), [[0]], "unknown-key", "did you mean flips?"),
        ("metadata.json", ("task",), None, "metadata", "task is missing"),
        ("metadata.json", ("version",), "9.9.9", "metadata", "is not in changelog"),
        ("metadata.json", ("network_data_format", "outputs", "pred", "num_channels"), 4, "metadata", "names 3"),
        ("metadata.json", ("required_packages_version", "none"), "1", "missing-package", "pip install none==1"),
    ],
)
def test_one_fault_is_one_line_with_its_place(bundle, name, path, value, code, words):
    change(bundle, name, *path, value=value)
    issue = find(bundle)
    assert (issue.code, issue.path) == (code, name)
    assert words in issue.one_line()
    place = "#".join(map(str, path))
    assert issue.record.startswith(path[0].split("#")[0]) or issue.record in place or issue.record == "changelog"


def test_the_built_network_must_fit_the_declared_tensors(bundle):
    tensors = ("network_data_format", "inputs", "image")
    change(bundle, "metadata.json", *tensors, "num_channels", value=2)
    change(bundle, "metadata.json", *tensors, "channel_def", value={"0": "T1", "1": "T2"})
    issues = [issue for issue in check_bundle(bundle) if issue.code == "channels"]
    assert issues
    assert "does not take the declared input (1, 2, 48, 64, 48)" in issues[0].message


def test_a_network_that_cannot_be_built_is_named_with_its_reason(bundle):
    for name in ("train.json", "inference.json"):
        change(bundle, name, "network_def", "spatial_dims", value=5)
    issues = [issue for issue in check_bundle(bundle) if issue.severity == "error"]
    assert sorted((issue.code, issue.path) for issue in issues) == [
        ("network", "inference.json"),
        ("network", "train.json"),
    ]
    assert all("spatial_dims" in issue.message for issue in issues)


def test_drift_between_training_and_inference(bundle):
    change(bundle, "inference.json", "network_def", "init_filters", value=32)
    assert "network_def#init_filters is 32, in training 16" in find(bundle).message
    change(bundle, "inference.json", "preprocessing", "transforms", -2, "nonzero", value=True)
    change(bundle, "inference.json", "overlap", value=0.25)
    drift = {issue.record: issue.severity for issue in check_bundle(bundle) if issue.code == "drift"}
    number = len(json.loads((bundle / "configs/inference.json").read_text())["preprocessing"]["transforms"]) - 2
    assert drift == {"network_def": "error", "overlap": "warning", f"preprocessing#transforms#{number}": "warning"}


def test_files_that_are_missing_too_large_or_code(bundle):
    (bundle / "LICENSE").unlink()
    (bundle / "configs/inference.json").unlink()
    (bundle / "scripts").mkdir()
    (bundle / "scripts/net.py").touch()
    with (bundle / "weights.pt").open("wb") as stream:
        stream.truncate(26_000_000)
    found = {(issue.code, issue.path, issue.severity) for issue in check_bundle(bundle)}
    assert {
        ("missing-file", "LICENSE", "error"),
        ("missing-file", "configs/inference.json", "warning"),
        ("code", "scripts/net.py", "error"),
        ("large-file", "weights.pt", "warning"),
    } <= found


def test_ids_that_clients_need(bundle):
    change(bundle, "inference.json", "inferer", value=None)
    change(bundle, "inference.json", "evaluator", "inferer", value=None)
    issues = [issue for issue in check_bundle(bundle) if issue.path == "inference.json"]
    assert [(issue.code, issue.record) for issue in issues] == [("missing-id", "inferer")]


def test_other_versions_are_a_warning(bundle):
    change(bundle, "metadata.json", "numpy_version", value="1.26.0")
    (issue,) = check_bundle(bundle)
    assert (issue.severity, issue.record) == ("warning", "numpy")
    assert "was tested with 1.26.0" in issue.message


def test_an_override_is_checked_with_the_configs_that_it_is_written_for():
    complete = {"bundle_root": ".", "run": []}
    configs = Configs(
        {
            "train.json": {**complete, "lr": 1, "train": {"data": []}},
            "inference.json": {**complete, "input": "a"},
            "evaluate.json": {"split": "val", "train#data": ["@split"]},
            "both.json": {"lr": 2, "split": "test"},
        }
    )
    assert configs.find_bases("evaluate.json") == [("train.json",)]
    assert configs.find_bases("both.json") == [("train.json", "evaluate.json")]


def test_a_run_with_its_overrides(bundle, capsys):
    assert main(["bundle", "check", str(bundle), "--config", "train", "losses", "--override", "loss=@losses#dice"]) == 0
    assert main(["bundle", "check", str(bundle), "--override", "learning_rat=3", "max_epochs=many", "fold=1"]) == 1
    out = capsys.readouterr().out
    assert "unknown key learning_rat; did you mean learning_rate?" in out
    assert "max_epochs expects a whole number such as 100, got 'many'" in out
    assert main(["bundle", "check", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {str(bundle): []}


def test_wrong_usage_is_one_line(bundle):
    with pytest.raises(InputError, match=r"there is no config trian.json; did you mean 'train.json'\?"):
        check_bundle(bundle, ["trian"])
    (bundle / "configs/tta.json").write_text('{"flips": ')
    with pytest.raises(InputError, match=r"tta\.json"):
        check_bundle(bundle)


@pytest.mark.parametrize("audit", [True, False])
def test_nothing_is_built_that_an_audit_refuses(bundle, tmp_path, monkeypatch, audit):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # as for `python -m`
    (tmp_path / "evil_module.py").write_text("open('canary', 'w')")
    hidden = "monai.utils.misc.subprocess.Popen"
    networks = (
        ({"_target_": "LoadImage", "reader": hidden, "args": ["touch", "canary"]}, "named-class"),
        ({"_target_": "evil_module.Net"}, "target-outside"),
        ({"_target_": "UNet", "spatial_dims": "$__import__('pathlib').Path('canary').touch()"}, "expression-name"),
    )
    for network, code in networks:
        for name in ("train.json", "inference.json"):
            change(bundle, name, "network_def", value=network)
        issues = [issue for issue in check_bundle(bundle, audit=audit) if issue.code == code]
        assert {issue.path for issue in issues} == ({"train.json", "inference.json"} if audit else set())
        assert not Path("canary").exists()


def test_an_expression_that_an_audit_refuses_is_named(bundle):
    change(bundle, "train.json", "seed", value="$__import__('os').getpid()")
    issues = [issue for issue in check_bundle(bundle) if issue.severity == "error"]
    assert {(issue.path, issue.record) for issue in issues if issue.code.startswith("expression-")} == {
        ("train.json", "seed")
    }
