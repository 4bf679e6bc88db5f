"""Wrong command lines are answered, right ones are not refused, and what was meant is what the config gets."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from pipeline.bundle.overrides.overrides import Overrides, describe_first
from tests.bundle.overrides.typing_lines import ROOT, read_line, type_line
from tests.bundles.conftest import BUNDLES, NAMES
from tests.docs.commands import WRITTEN, find_bundle_run, list_config_files
from tests.docs.markdown import list_documents, list_rows, read_blocks, read_text
from tests.docs.test_readme import list_overrides

# Bundle, configs, key, value, and what the line says.
WRONG = [
    ("lgg_unet", "train", "initial_weights", "3", "initial_weights expects a text or a path or null, got '3'"),
    # Unknown keys: the nearest one, the one inside an object, the file that has it.
    ("lgg_unet", "train", "learning_rat", "0.5", "unknown key learning_rat; did you mean learning_rate?"),
    ("lgg_unet", "train", "epochs", "5", "unknown key epochs; did you mean max_epochs?"),
    ("lgg_unet", "train", "lr", "0.1", "unknown key lr; did you mean optimizer#lr?"),
    ("lgg_unet", "train", "run_idd", "evaluate", "unknown key run_idd; did you mean run_id?"),
    ("lgg_unet", "train evaluate", "chekpoint", "a.pt", "unknown key chekpoint; did you mean checkpoint?"),
    ("lgg_unet", "train evaluate", "splitt", "test", "unknown key splitt; did you mean split?"),
    ("isic_unet", "inference", "treshold", "0.4", "unknown key treshold; did you mean threshold?"),
    ("isic_unet", "inference", "inptu", "x.png", "unknown key inptu; did you mean input?"),
    ("u373_unet", "inference", "min_siz", "5", "unknown key min_siz; did you mean min_size?"),
    ("lgg_unet", "train", "input", "x", "unknown key input; it is a key of inference.json, which is not for this run"),
    ("lgg_unet", "inference", "max_epochs", "3", "unknown key max_epochs; it is a key of train.json, which is not for"),
    ("lgg_unet", "inference", "skip_crf", "false", "unknown key skip_crf; it is a key of refine.json: add that"),
    ("lgg_unet", "inference", "skip_cfr", "false", "did you mean skip_crf? it is a key of refine.json: add that file"),
    ("lgg_unet", "train", "_target_x", "1", "unknown key _target_x"),
    # Nested.
    ("lgg_attunet", "train", "network_def#chanels", "5", "AttentionUnet takes no argument chanels (network_def); did"),
    ("lgg_unet", "train", "network_deff#channels", "5", "unknown key network_deff; did you mean network_def?"),
    ("lgg_unet", "train", "train#max_epochs", "5", "unknown key max_epochs in train; "),
    ("lgg_unet", "train", "train#datset#cache_rate", "0", "unknown key datset in train; did you mean dataset?"),
    (
        "lgg_unet",
        "train",
        "train#dataset#copy_cach",
        "true",
        "CacheDataset takes no argument copy_cach (train#dataset)",
    ),
    ("lgg_unet", "train", "train#dataloader#batch_sze", "4", "did you mean batch_size?"),
    ("lgg_unet", "train", "train#augmentation#99#prob", "0", "train#augmentation has no item 99; it has "),
    ("lgg_unet", "train", "learning_rate#x", "1", "learning_rate is 0.001, which has no parts such as x; to change it"),
    ("lgg_unet", "train", "optimizer#_target_", "torch.optim.SDG", "did you mean 'torch.optim.SGD'?"),
    (
        "lgg_unet",
        "train",
        "network_def#_target_",
        "BasicUNte",
        "names no class: 'BasicUNte'; did you mean 'BasicUNet'?",
    ),
    (
        "lgg_unet",
        "train",
        "loss",
        "{'_target_': 'DiceLoss', 'sigmod': True}",
        "DiceLoss takes no argument sigmod (loss)",
    ),
    ("lgg_unet", "train", "network_def", "{'_target_': 'SegResNet', 'spatial_dims': 'x'}", "expects a whole number"),
    ("lgg_unet", "train", "optimizer", "{'_target_': 'torch.optim.SGD'}", "torch.optim.SGD needs the argument params"),
    # Wrong types and values.
    ("lgg_unet", "train", "learning_rate", "fast", "learning_rate expects a number such as 0.001, got 'fast'"),
    ("lgg_unet", "train", "learning_rate", "nan", "learning_rate expects a number such as 0.001, got 'nan'"),
    ("lgg_unet", "train", "learning_rate", "[1,2]", "learning_rate expects a number such as 0.001, got '[1,2]'"),
    ("lgg_unet", "train", "max_epochs", "2.5", "max_epochs expects a whole number such as 50, got '2.5'"),
    ("lgg_unet", "train", "max_epochs", "0", "max_epochs expects a number from 1, got '0'"),
    ("lgg_unet", "train", "max_epochs", "True", "max_epochs expects a whole number such as 50, got 'True'"),
    ("lgg_unet", "train", "batch_size", "-4", "batch_size expects a number from 1, got '-4'"),
    ("lgg_unet", "train", "batch_size", "2.5", "batch_size expects a whole number such as 16, got '2.5'"),
    ("lgg_unet", "train", "num_workers", "-1", "num_workers expects a number from 0, got '-1'"),
    ("lgg_unet", "train", "num_workers", "many", "num_workers expects one of auto, a whole number, got 'many'"),
    ("lgg_unet", "train", "val_interval", "0", "val_interval expects a number from 1, got '0'"),
    ("lgg_unet", "train", "seed", "x", "seed expects a whole number such as 0, got 'x'"),
    ("lgg_unet", "train", "resume", "yes", "resume expects true or false, got 'yes'"),
    ("lgg_unet", "train", "check", "off", "check expects true or false, got 'off'"),
    ("lgg_unet", "train evaluate", "split", "tset", "split expects one of train, val, test, all, got 'tset'"),
    ("lgg_unet", "train", "amp", "tru", "amp expects one of true, false, auto, got 'tru'"),
    ("lgg_unet", "train", "device", "cud:0", "device expects a device such as cpu, cuda or cuda:1, got 'cud:0'"),
    ("lgg_unet", "train", "roi_size", "[192,192", "roi_size expects a list such as [192, 192, 3], got '[192,192'"),
    ("lgg_unet", "train", "roi_size", "[a,b,c]", "roi_size expects a list such as [192, 192, 3], got '[a,b,c]'"),
    ("lgg_unet", "train", "train", "5", "train expects a group of keys, got '5'"),
    ("lgg_unet", "train", "early_stop_patience", "None", "early_stop_patience expects a whole number such as 15, got"),
    ("lgg_unet", "train", "train#dataset#copy_cache", "maybe", "copy_cache expects true or false, got 'maybe'"),
    ("lgg_unet", "train", "train#augmentation#10#_disabled_", "perhaps", "_disabled_ expects true or false, got"),
    ("lgg_unet", "train", "train#augmentation#10#prob", "2", "#prob expects a number from 0 to 1, got '2'"),
    ("isic_unet", "inference", "threshold", "high", "threshold expects a number such as 0.5, got 'high'"),
    ("isic_unet", "inference", "threshold", "1.5", "threshold expects a number from 0 to 1, got '1.5'"),
    ("isic_unet", "inference", "flips", "1", "flips expects a list such as [[0], [1], [0, 1]], got '1'"),
    ("isic_unet", "inference", "overlay", "2", "overlay expects true or false, got '2'"),
    ("hippocampus_segresnet", "inference", "sw_batch_size", "0", "sw_batch_size expects a number from 1, got '0'"),
    ("lgg_unet", "inference refine", "skip_crf", "no", "skip_crf expects true or false, got 'no'"),
    ("lgg_unet", "inference refine", "crf_iterations", "many", "crf_iterations expects a whole number such as 5, got"),
    # A list, nothing, or code where a path belongs.
    (
        "lgg_unet",
        "inference",
        "output_dir",
        "[1]",
        "output_dir expects a text such as 'output/lgg_unet/predictions', got '[1]'",
    ),
    ("lgg_unet", "train", "manifest", "[1]", "manifest expects a text such as a path, got '[1]'"),
    ("lgg_unet", "train", "output_dir", "None", "output_dir expects a text such as 'output/lgg_unet', got 'None'"),
    (
        "lgg_unet",
        "train",
        "output_dir",
        "$scratch",
        "nothing defines scratch in the expression '$scratch';",
    ),
    (
        "lgg_unet",
        "train",
        "output_dir",
        "@scratch",
        "there is no id scratch that '@scratch' could refer to;",
    ),
    # Names that are ids, and references that lead nowhere.
    ("lgg_unet", "train", "loss", "focal", "did you mean @losses#focal, with losses.json in --config_file?"),
    ("lgg_unet", "train losses", "loss", "focal", "did you mean @losses#focal?"),
    ("lgg_unet", "train losses", "loss", "focl", "did you mean @losses#focal?"),
    ("lgg_unet", "train", "loss", "@losses#focal", "it is in losses.json, which --config_file does not name"),
    ("lgg_unet", "train losses", "loss", "@losess#focal", "did you mean @losses#focal?"),
    ("lgg_unet", "train", "loss", "@loss", "loss refers to itself"),
    ("lgg_unet", "train", "loss", "DiceLoss", """did you mean --loss "{'_target_': 'DiceLoss'}"?"""),
    ("lgg_unet", "train", "learning_rate", "@max_epoch", "did you mean @max_epochs?"),
    ("lgg_unet", "train", "max_epochs", "@learning_rate", "max_epochs expects a whole number such as 50, got"),
    ("lgg_unet", "train", "network", "$toch.nn.Identity()", "network: nothing defines toch in the expression"),
    ("lgg_unet", "train", "learning_rate", "$1 +", "'$1 +' is no expression of Python"),
]
RIGHT = [
    ("lgg_unet", "train", "train#dataloader#pin_memory", "true"),
    ("lgg_unet", "train", "num_workers", "4"),
    ("lgg_unet", "train", "num_workers", "auto"),
    ("lgg_unet", "train", "network_def#dropout", "0"),
    ("lgg_unet", "train", "network_def", "{'_target_': 'AttentionUnet', 'spatial_dims': 2, 'in_channels': 9, "
     "'out_channels': 1, 'channels': [8, 16], 'strides': [2]}"),
    ("lgg_unet", "train", "validate#additional_metrics#mine", "{'_target_': 'IgniteMetricHandler'}"),
    ("lgg_unet", "train", "validate#key_metric#dice_patient#_desc_", "the one that counts"),
    ("lgg_unet", "train", "_note_", "a remark"),
    ("lgg_unet", "train", "logging_file", "False"),
    ("lgg_unet", "train", "run_id", "initialize"),
    ("lgg_unet", "train", "loss#sigmoid", "false"),
    ("lgg_unet", "train", "roi_size", "96"),
    ("lgg_unet", "train", "roi_size", "96,96,3"),
    ("lgg_unet", "train", "amp", "auto"),
    ("lgg_unet", "train", "fold", "reference"),
    ("lgg_unet", "train", "learning_rate", "1"),
    ("lgg_unet", "train", "learning_rate", "$@batch_size * 1e-4"),
    ("lgg_unet", "train", "max_epochs", "1e2"),
    ("lgg_unet", "train", "device", "cuda:1"),
    ("lgg_unet", "train", "device", "$torch.device('cpu')"),
    ("lgg_unet", "train", "output_dir", "$@bundle_root + '/other'"),
    ("lgg_unet", "train", "output_dir", "@scratch/run"),
    ("lgg_unet", "train", "imports", "['$import monai', '$import torch', '$import os']"),
    ("lgg_unet", "train", "initialize", "[]"),
    ("lgg_unet", "train", "tensorboard", "None"),
    ("lgg_unet", "train", "optimizer#_target_", "torch.optim.SGD"),
    ("lgg_unet", "train multi_gpu_train", "device", "cpu"),
    ("lgg_unet", "train multi_gpu_train", "check", "false"),
    ("isic_transunet", "train", "encoder_weights", "imagenet"),
    ("isic_unetpp", "train", "encoder_weights", "None"),
    ("isic_unetpp", "train", "initial_weights", "other/model.pt"),
    ("u373_unet", "train", "fold", "0"),
    ("hippocampus_segresnet", "train", "train#augmentation#2#factors", "[0.1,0.2]"),
    ("lgg_unet", "inference ensemble", "checkpoints", "['a.pt','b.pt']"),
]  # fmt: skip


@pytest.mark.parametrize(("bundle", "configs", "key", "value", "answer"), WRONG)
def test_a_wrong_line_is_answered_in_one(bundle: str, configs: str, key: str, value: str, answer: str) -> None:
    issues = type_line(bundle, configs, f"--{key}", value).find_issues()
    line = describe_first(issues)
    assert answer in line
    assert "\n" not in line
    assert {issue.severity for issue in issues} == {"error"}
    assert issues[0].record


@pytest.mark.parametrize(("bundle", "configs", "key", "value"), RIGHT)
def test_a_right_line_is_not_refused(bundle: str, configs: str, key: str, value: str) -> None:
    assert type_line(bundle, configs, f"--{key}", value).find_issues() == []


@pytest.mark.parametrize("name", NAMES)
def test_every_default_may_be_typed(name: str) -> None:
    """Each setting of each config, given its own default on the command line."""
    for configs in ("train", "train evaluate", "inference", "inference refine", "train phantom", "train origin"):
        files = [ROOT / "bundles" / name / "configs" / f"{config}.json" for config in configs.split()]
        base = read_line([], files).base
        for path in files:
            assert Overrides(base, json.loads(path.read_text())).find_issues() == [], (configs, path.name)


@pytest.mark.parametrize("name", NAMES)
def test_every_misspelt_setting_is_refused_with_its_name(name: str) -> None:
    for configs in ("train", "train evaluate", "inference", "inference refine"):
        right = [key for key in type_line(name, configs).base if len(key) > 4 and not key.startswith("_")]
        wrong = [word for key in right for word in (f"--{key[:2]}{key[3:]}", "1")]
        issues = type_line(name, configs, *wrong).find_issues()
        assert [issue.hint for issue in issues] == [f"did you mean {key}?" for key in right], configs


def set_and_parse(parser: ConfigParser, values: dict[str, Any]) -> None:
    parser.update(values)
    parser.parse()


def list_documented() -> list[tuple[str, list[str]]]:
    cards = [f"bundles/{name}/docs/README.md" for name in NAMES]
    blocks = [block for document in [*list_documents(), *cards] for block in read_blocks(document)]
    return [
        (block.name, options)
        for block in blocks
        if block.language in ("bash", "")
        for words in block.list_commands()
        if (options := find_bundle_run(words)) is not None
    ]


@pytest.mark.parametrize(("place", "options"), list_documented())
def test_no_documented_command_is_refused(place: str, options: list[str]) -> None:
    at = options.index("--config_file")
    files = [ROOT / file.removeprefix("/path/to/") for file in list_config_files(options[at + 1])]
    files = [file for file in files if file.name not in WRITTEN]
    if not all(file.is_file() for file in files):
        # Of a bundle that an earlier command makes, or a config that the page shows; its keys are those of others.
        files = [BUNDLES[0] / "configs" / file.name for file in files]
        files = [file for file in files if file.is_file()]
    assert read_line([*options[:at], *options[at + 2 :]], files).find_issues() == []


def test_there_are_many_documented_commands() -> None:
    assert len(list_documented()) > 40


@pytest.mark.parametrize("line", list_overrides())
def test_the_changes_of_the_guide_are_not_refused(line: str) -> None:
    files = "train evaluate" if "flips" in line else "train"
    assert type_line("lgg_attunet", files, *shlex.split(line)).find_issues() == []


def test_the_answers_in_the_reference_are_right() -> None:
    rows = list_rows(read_text("docs/reference/errors.md"), "typed")
    assert len(rows) > 5
    for typed, answer in rows:
        line = re.findall(r"`(--[^`]+)`", typed)[0]
        issues = type_line("lgg_attunet", "train", *shlex.split(line)).find_issues()
        assert describe_first(issues).endswith(answer.strip("`").removeprefix("... ")), line


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"network_deff#channels": 5}, "'query key: network_deff'"),
        ({"train#augmentation#99#prob": 0}, "list index out of range"),
        ({"input": "%x"}, "'query key: x'"),
    ],
)
def test_what_monai_answers_itself_is_what_the_reference_says(values: dict[str, Any], line: str) -> None:
    parser = ConfigParser(type_line("lgg_attunet", "train").base)
    with pytest.raises((KeyError, IndexError)) as caught:
        set_and_parse(parser, values)
    assert str(caught.value) == line
    assert line in read_text("docs/reference/errors.md")


@pytest.mark.parametrize(
    ("key", "word", "meant"),
    [
        ("output_dir", "20240901", "20240901"),
        ("output_dir", "2024_09", "2024_09"),
        ("output_dir", "007", "007"),
        ("output_dir", "1e3", "1e3"),
        ("output_dir", "0x10", "0x10"),
        ("output_dir", "T1,T2", "T1,T2"),
        ("output_dir", "exp#3", "exp#3"),
        ("output_dir", "runs/exp#3", "runs/exp#3"),
        ("output_dir", "3#x", "3#x"),
        ("output_dir", "user@host/a@@b", "user@host/a@@b"),
        ("output_dir", "@scratch/run", "@scratch/run"),
        ("output_dir", "50%done", "50%done"),
        ("output_dir", "Müller, Ärzte (2)", "Müller, Ärzte (2)"),
        ("output_dir", "'007'", "007"),
        ("output_dir", "./$scratch", "./$scratch"),
        ("output_dir", "./@scratch", "./@scratch"),
        ("dataset_dir", "no#3", "no#3"),
        ("manifest", "a,b#1.json", "a,b#1.json"),
        ("resume", "true", True),
        ("resume", "FALSE", False),
        ("resume", "0", False),
        ("train#dataset#copy_cache", "true", True),
        ("train#augmentation#10#_disabled_", "false", False),
        ("max_epochs", "1e2", 100),
        ("amp", "false", False),
        ("fold", "1", 1),
        ("encoder_weights", "None", None),
    ],
)
def test_what_was_meant_reaches_the_config(key: str, word: str, meant: object) -> None:
    bundle = "isic_unetpp" if key == "encoder_weights" else "lgg_unet"
    overrides = type_line(bundle, "train", f"--{key}", word)
    assert overrides.find_issues() == []
    parser = ConfigParser(overrides.base)
    parser.update(overrides.read_values())
    found = parser.get_parsed_content(key)
    assert (found, type(found)) == (meant, type(meant))


def test_a_folder_whose_name_is_code_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("$scratch", "@x", "[1]"):
        (tmp_path / name).mkdir()
        overrides = type_line("lgg_unet", "inference", "--input", name)
        assert overrides.find_issues() == []
        parser = ConfigParser(overrides.base)
        parser.update(overrides.read_values())
        assert parser.get_parsed_content("input") == parser.get_parsed_content("dataset_dir") == name


@pytest.mark.parametrize("name", ["$scratch", "@scratch"])
def test_the_hint_for_a_folder_whose_name_is_code_works(name: str) -> None:
    (issue,) = type_line("lgg_unet", "train", "--output_dir", name).find_issues()
    typed = re.fullmatch(r"for a file or folder of that name, type --output_dir '(.+)'", issue.hint)
    assert typed is not None
    assert type_line("lgg_unet", "train", "--output_dir", typed[1]).find_issues() == []


@pytest.mark.parametrize("configs", ["train", "inference"])
def test_the_hint_to_add_a_config_works_for_every_key(configs: str) -> None:
    others = type_line("isic_unet", configs).elsewhere
    keys = {key for other in others.values() for key in other if "#" not in key and key[0] not in "+_"}
    followed = set()
    for issue in type_line("isic_unet", configs, *[w for key in keys for w in (f"--{key}", "1")]).find_issues():
        found = re.fullmatch(r"it is a key of ([\w.]+)(?: or [\w.]+)*: add that file to --config_file", issue.hint)
        if found is not None:
            more = found[1].removesuffix(".json")
            value = json.dumps(others[found[1]][issue.record])
            assert type_line("isic_unet", f"{configs} {more}", f"--{issue.record}", value).find_issues() == []
            followed.add(issue.record)
    assert followed >= ({"checkpoint", "split"} if configs == "train" else {"skip_crf", "crf_iterations"})


def test_the_hints_for_a_loss_work() -> None:
    (issue,) = type_line("lgg_unet", "train", "--loss", "focal").find_issues()
    assert issue.hint == "did you mean @losses#focal, with losses.json in --config_file?"
    assert type_line("lgg_unet", "train losses", "--loss", "@losses#focal").find_issues() == []
    (issue,) = type_line("lgg_unet", "train", "--loss", "DiceLoss").find_issues()
    typed = re.fullmatch(r'did you mean --loss "(.+)"\?', issue.hint)
    assert typed is not None
    assert type_line("lgg_unet", "train", "--loss", typed[1]).find_issues() == []


def test_a_path_given_in_python_may_be_a_number() -> None:
    overrides = Overrides({"output_dir": "$@bundle_root + '/output'"}, {"output_dir": 2024})
    assert overrides.read_values() == {"output_dir": "2024"}
    assert DefaultParseValue("2024") == 2024


def test_several_findings_are_counted() -> None:
    issues = type_line("lgg_unet", "train", "--learning_rat", "1", "--max_epochs", "0").find_issues()
    assert describe_first(issues) == "unknown key learning_rat; did you mean learning_rate? (and 1 more)"
