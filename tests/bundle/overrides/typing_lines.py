"""Command lines of ``python -m monai.bundle run``, read as Fire and MONAI read them, but not run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fire.parser import DefaultParseValue

from pipeline.bundle.overrides.command_line import RUN_ARGUMENTS, Run, read_words
from pipeline.bundle.overrides.overrides import Overrides
from pipeline.bundle.overrides.startup import read_overrides

ROOT = Path(__file__).resolve().parents[3]


def read_line(options: Sequence[str], files: Sequence[Path]) -> Overrides:
    """Return what the options of a command line change in config files.

    Args:
        options: the words after ``run``, without ``--config_file`` and its value.
        files: the configs.
    """
    words = read_words(options)
    values: dict[str, Any] = {name: DefaultParseValue(word) for name, word in words.items()}
    given = {name: value for name, value in values.items() if name not in RUN_ARGUMENTS}
    arguments = {name: value for name, value in values.items() if name in RUN_ARGUMENTS}
    workflow = SimpleNamespace(config_root_path=files[0].parent)
    return read_overrides(Run(workflow, tuple(str(file) for file in files), given, arguments, words))


def type_line(bundle: str, configs: str, *options: str) -> Overrides:
    """Return what options change in configs of a bundle, ``"train evaluate"`` for two of them."""
    folder = ROOT / "bundles" / bundle / "configs"
    return read_line(options, [folder / f"{name}.json" for name in configs.split()])
