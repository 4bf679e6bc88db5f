"""Whether a documented command can be typed: commands, options, config files and ids exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from monai.bundle import ConfigParser
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from pipeline.commands.cli import build_parser
from tests.docs.markdown import ROOT

PYTHON = ["python", "-m"]
# Programs of the system and of the environment, which are not ours to test.
FOREIGN = {
    "source",
    "tensorboard",
    "mlflow",
    "pre-commit",
    "git",
    "cd",
    "ls",
    "cat",
    "cp",
    "pip",
    "monailabel",
    "openssl",
}
# Commands of MONAI for one network, beside `run`.
MONAI = {"ckpt_export", "onnx_export", "verify_metadata", "verify_net_in_out", "download_large_files"}
# What a training or a tuning writes, and a later command names as a config.
WRITTEN = {"threshold.json", "postprocessing.json"}


def read_value(word: str) -> object:
    """Read a word as the command line of MONAI does."""
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word


def find_bundle_run(words: Sequence[str]) -> list[str] | None:
    """Return the options of a command that runs a config, None for another command."""
    if words[0] in ("python", "torchrun") and "monai.bundle" in words and not set(words) & MONAI:
        start = list(words).index("monai.bundle")
        assert words[start - 1 : start + 2] == ["-m", "monai.bundle", "run"], words
        return list(words[start + 2 :])
    return None


def list_config_files(option: str) -> list[str]:
    return list(ast.literal_eval(option)) if option.startswith("[") else [option]


def check_command(words: Sequence[str], made: set[str]) -> None:
    """Check a command without running it.

    Args:
        words: of the command.
        made: names of bundles that earlier commands make, to which the command's own is added.
    """
    options = find_bundle_run(words)
    if options is not None:
        _check_bundle_run(options, made)
    elif words[:3] == [*PYTHON, "monai.bundle"]:
        options = dict(zip(words[-2::-2], words[-1::-2], strict=False))
        for name in ("--config_file", "--meta_file"):
            assert name not in options or (ROOT / options[name]).is_file(), words
    elif words[:3] == [*PYTHON, "pipeline"]:
        _check_own(words[3:], made)
    elif words[0] == "make":
        targets = {word for word in words[1:] if "=" not in word}
        known = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
        assert targets <= known, targets - known
    elif words[:3] == [*PYTHON, "pytest"] or (words[:1] == ["python"] and words[1].endswith(".py")):
        for word in words[1:]:
            assert "/" not in word or (ROOT / word.split("::")[0]).exists(), word
    else:
        assert words[0] in FOREIGN, f"neither a command of the project nor a known program: {words}"


def knows(config: ConfigParser, key: str) -> bool:
    """Return whether an override changes something; an argument may be one that the config leaves at its default."""
    parent, _, _ = key.rpartition("#")
    return key in config or (bool(parent) and parent in config)


def _check_bundle_run(options: list[str], made: set[str]) -> None:
    assert len(options) % 2 == 0, f"an option without value: {options}"
    assert all(option.startswith("--") for option in options[::2]), options
    values = {option[2:]: value for option, value in zip(options[::2], options[1::2], strict=True)}
    files = [ROOT / file for file in list_config_files(values.pop("config_file")) if Path(file).name not in WRITTEN]
    if any(file.parent.parent.name in made for file in files):
        assert {file.name for file in files} <= {path.name for path in ROOT.glob("bundles/*/configs/*.json")}
        return
    files = [Path("/path/to") / file if file.is_absolute() else file for file in files]
    files = [ROOT / str(file).removeprefix("/path/to/") for file in files]
    for file in files:
        assert file.is_file(), file
    config = ConfigParser()
    config.read_config([str(file) for file in files])
    tracking = values.pop("tracking", None)
    assert tracking is None or tracking in DEFAULT_EXP_MGMT_SETTINGS, tracking
    for key in values:
        assert knows(config, key), f"{[file.name for file in files]} know no --{key}"


def _check_own(words: Sequence[str], made: set[str]) -> None:
    args, extras = build_parser().parse_known_args(list(words))
    assert hasattr(args, "run") or "--help" in words, words
    if words[:2] == ["bundle", "run"]:
        folder = ROOT / "bundles" / Path(args.bundle).stem
        files = [f"{folder}/configs/{name}.json" for name in args.configs]
        _check_bundle_run([*(str(extra) for extra in extras), "--config_file", str(files)], made)
    else:
        assert not extras, extras
    if words[:2] == ["bundle", "new"]:
        made.add(words[2])
