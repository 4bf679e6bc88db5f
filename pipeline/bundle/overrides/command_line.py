"""Find out what was typed: the overrides of the run that is starting, read from its call stack."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from pipeline.bundle.overrides.literals import restore_texts

_FLAG = re.compile(r"--|-[A-Za-z]")
# Arguments of `monai.bundle.run` and of what it calls; all others are ids of the config.
RUN_ARGUMENTS = (
    *("config_file", "meta_file", "logging_file", "args_file", "tracking", "init_id", "run_id", "final_id"),
    *("workflow_name", "workflow_type", "properties_path"),
)


@dataclass(frozen=True)
class Run:
    """A run of configs that is starting."""

    workflow: Any  #: MONAI's `ConfigWorkflow`
    files: tuple[str, ...]  #: the configs, in the order in which they change each other
    values: Mapping[str, Any]  #: what changes them, by id
    arguments: Mapping[str, Any] = field(default_factory=dict)  #: MONAI's own, such as ``run_id``
    words: Mapping[str, str] = field(default_factory=dict)  #: the values as they were typed; empty for a call in Python
    shown: dict[str, Any] = field(default_factory=dict)  #: what MONAI prints as the summary of the run


def find_run() -> Run | None:
    """Return the run that is starting.

    Returns:
        None if the config was not started by `monai.bundle.run` or `create_workflow`: clients such as MONAI Label and
        `MonaiAlgo` change the parser by themselves.
    """
    frames = {}
    for frame in _list_frames():
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if (module, name) == ("monai.bundle.workflows", "initialize") and "workflow" not in frames:
            frames["workflow"] = frame
            caller = frame.f_back
            if caller is None or not _is(caller, "monai.bundle.scripts", "create_workflow"):
                return None
            frames["create"] = caller
        elif (module, name) == ("monai.bundle.scripts", "run") and "run" not in frames:
            frames["run"] = frame
        elif (module, name) == ("fire.core", "Fire"):
            frames["fire"] = frame
            break
    return _read_run(frames) if "create" in frames else None


def read_words(line: Sequence[str]) -> dict[str, str]:
    """Return the options of a command line with their values as they were typed.

    Example:
        >>> read_words(["run", "--output-dir", "007", "--lr=1e-3", "--resume", "--loss", "@losses#focal"])
        {'output_dir': '007', 'lr': '1e-3', 'loss': '@losses#focal'}
    """
    words = {}
    for word, following in zip(line, [*line[1:], "--"], strict=False):
        if not _FLAG.match(word):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if equals or not _FLAG.match(following):
            words[name.replace("-", "_")] = value if equals else following
    return words


def _list_frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is(frame: FrameType, module: str, name: str) -> bool:
    return bool(frame.f_globals.get("__name__") == module and frame.f_code.co_name == name)


def _read_run(frames: Mapping[str, FrameType]) -> Run:
    created, typed = frames["create"].f_locals, frames["run"].f_locals if "run" in frames else {}
    fire = frames["fire"].f_locals.get("args") if "fire" in frames else None
    words = read_words([str(word) for word in fire or ()])
    given = dict(created["_args"])
    # MONAI drops None, which a command line can only have been given on purpose.
    given |= {name: None for name, value in typed.get("override", {}).items() if value is None and name in words}
    # MONAI has changed lists and objects in place.
    given = {name: restore_texts(value) for name, value in given.items()}
    files = created["config_file"]
    return Run(
        frames["workflow"].f_locals["self"],
        tuple(str(file) for file in ([files] if isinstance(files, str) else files)),
        {name: value for name, value in given.items() if name not in RUN_ARGUMENTS},
        {name: value for name, value in given.items() if name in RUN_ARGUMENTS},
        words,
        created["_args"],
    )
