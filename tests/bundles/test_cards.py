"""What a model card says, held against the bundle's own files: licence, source, size of the network, commands."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from pipeline.commands.cli import build_parser
from tests.bundles.conftest import ROOT, read_json

# What a training or a tuning writes, and a command may name as a config.
OUTPUTS = {"threshold.json", "postprocessing.json"}
PLACEHOLDER = "SCORES_GO_HERE"


def read_card(bundle: Path) -> str:
    return (bundle / "docs/README.md").read_text(encoding="utf-8")


def list_commands(card: str) -> list[list[str]]:
    """List the words of every command in the card's code blocks."""
    blocks = re.findall(r"^```\n(.*?)^```$", card, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if line.strip()]


EXPORTS = ("ckpt_export", "onnx_export")


def list_exports(card: str) -> list[list[str]]:
    """List the words of every command that exports a network, from the name of the command on."""
    commands = [words for words in list_commands(card) if words[:3] == ["python", "-m", "monai.bundle"]]
    return [words[3:] for words in commands if words[3] in EXPORTS]


def list_runs(card: str) -> list[dict[str, str]]:
    """List the options of every command that runs a config."""
    runs = []
    for words in list_commands(card):
        if "monai.bundle" in words and not set(words) & set(EXPORTS):
            assert words[0] in ("python", "torchrun"), words
            module = words.index("monai.bundle")
            assert words[module - 1 : module + 2] == ["-m", "monai.bundle", "run"], words
            options = words[module + 2 :]
            assert len(options) % 2 == 0, f"an option without value: {options}"
            assert all(option.startswith("--") for option in options[::2]), options
            runs.append({option[2:]: value for option, value in zip(options[::2], options[1::2], strict=True)})
    return runs


def list_config_files(option: str) -> list[str]:
    return list(ast.literal_eval(option)) if option.startswith("[") else [option]


def load(files: list[Path]) -> ConfigParser:
    config = ConfigParser()
    config.read_config([str(file) for file in files])
    return config


def knows(config: ConfigParser, key: str) -> bool:
    """Tell whether an override changes something; an argument may be one that the config leaves at its default."""
    parent, _, _ = key.rpartition("#")
    return key in config or (bool(parent) and parent in config)


def list_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """List the options of all commands of the package."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for leaf in action.choices.values():
                yield from list_options(leaf)


def list_spans(card: str) -> list[str]:
    """List the code in the card's text, outside of its code blocks."""
    text = re.sub(r"^```\n.*?^```$", "", card, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def test_card_names_licence_and_source(bundle: Path) -> None:
    card, licence = read_card(bundle), (bundle / "docs/data_license.txt").read_text(encoding="utf-8")
    source = read_json(bundle / "configs/metadata.json")["data_source"]
    assert "(data_license.txt)" in card
    assert source in card
    assert source in licence
    assert "Please cite:" in licence
    assert "**Research only.**" in card
    assert card.startswith(f"# {bundle.name}: ")


def test_card_states_the_number_of_parameters(bundle: Path) -> None:
    number = read_json(bundle / "configs/metadata.json")["network_parameters"]
    stated = re.search(r"([\d.]+) million\s+parameters", read_card(bundle))
    assert stated, "such as: 4.5 million parameters"
    decimals = len(stated[1].partition(".")[2])
    assert stated[1] == f"{number / 1e6:.{decimals}f}"


def test_commands_that_run_configs(bundle: Path) -> None:
    runs = list_runs(read_card(bundle))
    named = set()
    for options in runs:
        files = list_config_files(options.pop("config_file"))
        named |= {Path(file).name for file in files}
        ours = [ROOT / file for file in files if not file.startswith("runs/")]
        assert ours[0].name in ("train.json", "inference.json"), "other files are overrides"
        for file in ours:
            assert file.is_file(), file
            assert file.parent == bundle / "configs", file
        assert {Path(file).name for file in files if file.startswith("runs/")} <= OUTPUTS
        config = load(ours)
        for key, value in options.items():
            assert knows(config, key), f"{files} know no --{key}"
            if value.startswith("data_manifests/"):
                assert (ROOT / value).is_file(), value
    assert {"train.json", "evaluate.json", "inference.json"} <= named


def test_commands_that_export(bundle: Path) -> None:
    exports = list_exports(read_card(bundle))
    assert [words[:2] for words in exports] == [[name, "network_def"] for name in EXPORTS]
    shipped = f"bundles/{bundle.name}/models/model.pt"
    for words in exports:
        options = dict(zip(words[2::2], words[3::2], strict=True))
        assert options["--config_file"] == f"bundles/{bundle.name}/configs/inference.json"
        assert options["--meta_file"] == f"bundles/{bundle.name}/configs/metadata.json"
        assert (options["--ckpt_file"] == shipped) == (ROOT / shipped).is_file()


def test_commands_of_the_package(bundle: Path) -> None:
    commands = [words for words in list_commands(read_card(bundle)) if "monai.bundle" not in words]
    written: set[str] = set()
    for words in commands:
        assert words[:3] == ["python", "-m", "pipeline"], words
        args, extras = build_parser().parse_known_args(words[3:])
        assert hasattr(args, "run"), words
        assert not extras, words
        if "-o" in words:
            written.add(words[words.index("-o") + 1])
        for word in words:
            if word.startswith("data_manifests/") and word not in written:
                assert (ROOT / word).is_file(), word
    assert any(words[3] == "report" for words in commands)


def test_phantom_of_the_card_is_that_of_the_metadata(bundle: Path) -> None:
    card, phantom = read_card(bundle), read_json(bundle / "configs/metadata.json")["phantom"]
    commands = [words for words in list_commands(card) if words[3:5] == ["dataset", "phantom"]]
    for words in commands:
        assert words[5] == phantom["layout"]
        options = dict(zip(words[7::2], words[8::2], strict=True))
        assert options == {f"--{key}": str(value) for key, value in phantom["options"].items()}
    runs = [options for options in list_runs(card) if "phantom.json" in options["config_file"]]
    assert len(runs) == len(commands)
    for options in runs:
        assert Path(options["manifest"]).name == phantom.get("manifest", "manifest.json")


def test_options_and_files_in_the_text_exist(bundle: Path) -> None:
    configs = bundle / "configs"
    train, inference = ("train", "evaluate", "refine", "losses"), ("inference", "refine", "ensemble")
    known = [load([configs / f"{name}.json" for name in names]) for names in (train, inference)]
    options = set(list_options(build_parser()))
    for span in list_spans(read_card(bundle)):
        for option in re.findall(r"(?:^|\s)(--[\w#]+)", span):
            found = option in options or any(knows(config, option[2:]) for config in known)
            assert found, f"{span}: neither an id of the configs nor an option of the package"
        for reference in re.findall(r"@([\w#]+)", span):
            assert reference in known[0], span
        for name in re.findall(r"(?:^|\s)([\w./-]+\.(?:json|yaml))\b", span):
            assert name in OUTPUTS or (configs / name).is_file() or (ROOT / name).is_file(), span


def read_numbers(text: str) -> set[float]:
    return {float(number) for number in re.findall(r"\d+\.\d+", text)}


def test_scores_of_the_metadata_are_those_of_the_card(bundle: Path) -> None:
    """``eval_metrics`` are those of the weights in the bundle, so a bundle without weights has none."""
    card, metadata = read_card(bundle), read_json(bundle / "configs/metadata.json")
    assert read_numbers(metadata["validation_score"]) <= read_numbers(card)
    scores = metadata.get("eval_metrics", {})
    assert bool(scores) == (bundle / "models/model.pt").is_file()
    validate = load([bundle / "configs/train.json", bundle / "configs/evaluate.json"])["validate"]
    (key,) = validate["key_metric"]
    assert not scores or scores[key] == float(re.findall(r"\d+\.\d+", metadata["validation_score"])[0])
    for name, value in scores.items():
        assert name == key or name in validate["additional_metrics"]
        row = re.search(rf"^\| `{name}`[^|]*\| \**([\d.]+)\** \|", card, flags=re.MULTILINE)
        assert value == float(row[1]) if row else value in read_numbers(card), name


def test_scores_are_filled_in(bundle: Path) -> None:
    """Fails until the measured scores stand in the card, in place of the line with the placeholder."""
    if PLACEHOLDER in read_card(bundle):
        pytest.fail(f"{bundle.name}/docs/README.md: measure, and write the scores in place of {PLACEHOLDER}")
