"""The first thing that a config of this suite calls: is what was typed right?"""

import os
import re
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.bundle.config_files import METADATA, list_configs, read_json
from pipeline.bundle.configs import Config, list_texts
from pipeline.bundle.monai_import import require_monai
from pipeline.bundle.overrides.command_line import RUN_ARGUMENTS, Run, find_run
from pipeline.bundle.overrides.ids import is_remark, look_up
from pipeline.bundle.overrides.literals import keep_texts, make_literal
from pipeline.bundle.overrides.overrides import Overrides, describe_first
from pipeline.bundle.overrides.suggestions import find_nearest
from pipeline.bundle.overrides.value_types import suits
from pipeline.issues import InputError, Issue

_ROOT, _CONFIGS = "bundle_root", "configs"
# How like a known key an unknown one of a user's config is, if it is misspelt (1: equal).
_ALIKE = 0.8
# So long the other processes of torchrun wait for the first one to speak.
_PATIENCE = 20.0
# Warnings of MONAI that nobody can act on: when it makes a loader for any kind of image where an optional decoder for
# GPUs is missing, and when one of its metrics calls its own function with a deprecated argument.
_IDLE = (
    (r"NvImgCodecPydicomReader: nvImageCodec decoder plugin did not register", UserWarning),
    (r"monai\.metrics\.utils get_mask_edges:always_return_as_numpy", FutureWarning),
)


class StartupCheck:
    """Check the overrides of the run that is starting, before data are read and anything is built.

    Refused, in one line: unknown keys and arguments, values of a wrong type, references and expressions that lead
    nowhere, unknown classes. Put right: digits, commas and ``#`` in paths, "true" and "false" for switches, a
    ``bundle_root`` that does not lead to the bundle whose config was named.

    It belongs at the beginning of ``initialize``. Without a command line or a call of `monai.bundle.run` (clients such
    as MONAI Label) it looks at MONAI's version only.

    Raises:
        InputError: MONAI is too old, or something is certainly wrong: what, what was expected, what to type instead.

    Example:
        >>> _ = StartupCheck()  # nothing is starting
    """

    def __init__(self) -> None:
        require_monai()
        run = find_run()
        if run is None:
            return
        for text, category in _IDLE:
            warnings.filterwarnings("ignore", text, category)
        overrides = read_overrides(run)
        issues = [*check_run_id(run), *check_files(run, overrides), *overrides.find_issues(), *check_device(run)]
        if issues:
            refuse(issues)
        values = {**keep_config_texts(overrides.base), **find_root(run, overrides.base), **overrides.read_values()}
        run.shown.update(overrides.meant)  # MONAI prints it after this
        changed = {name: value for name, value in values.items() if run.workflow.parser.get(name) != value}
        for name, value in changed.items():
            run.workflow.parser[name] = value
        if changed:
            run.workflow.parser.parse(reset=True)


def read_overrides(run: Run) -> Overrides:
    """Return the overrides of a run, with the configs that they change."""
    from monai.bundle import ConfigParser

    folder = run.workflow.config_root_path
    named = {Path(file).resolve() for file in run.files}
    others = [path for path in list_configs(folder) if path.resolve() not in named and path.name != METADATA]
    tracking = run.arguments.get("tracking")
    return Overrides(
        dict(ConfigParser.load_config_files(list(run.files))),
        run.values,
        run.words,
        {path.name: config for path in others if isinstance(config := _read_other(path), dict)},
        (*RUN_ARGUMENTS, *(_list_tracking_keys(tracking) if tracking is not None else ())),
    )


def _read_other(path: Path) -> Any:
    try:
        return read_json(path)
    except InputError:  # a config that this run does not need
        return None


def _list_tracking_keys(tracking: Any) -> list[str]:
    from monai.bundle import ConfigParser
    from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

    known: Mapping[str, Any] = DEFAULT_EXP_MGMT_SETTINGS
    settings = known[tracking] if isinstance(tracking, str) and tracking in known else None
    return list((settings or ConfigParser.load_config_files(tracking)).get("configs", {}))


def check_run_id(run: Run) -> list[Issue]:
    """Return what is wrong with the words that stand without a key, which MONAI takes for the ids of what to run."""
    issues = []
    for name in ("run_id", "init_id", "final_id"):
        value = run.arguments.get(name)
        if value is not None and str(value) not in run.workflow.parser:
            path = str(value).endswith((".json", ".yaml", ".yml"))
            several = "several configs are given as --config_file \"['a.json','b.json']\""
            hint = several if path else f"leave it out: the default is {name.removesuffix('_id')}"
            issues.append(Issue("unknown-key", "error", f"{name} {value!r} is no id of the config", name, hint=hint))
    return issues


def check_files(run: Run, overrides: Overrides) -> list[Issue]:
    """Return what is wrong in the configs that change the first one.

    They may bring keys of their own; one that nothing uses, and that in name and kind is nearly another, is misspelt.
    """
    from monai.bundle import ConfigParser

    contents = [ConfigParser.load_config_file(file) for file in run.files]
    issues = []
    for number, file in enumerate(run.files[1:], start=1):
        before = dict(ConfigParser.load_config_files(list(run.files[:number])))
        own = {key.removeprefix("+"): look_up(overrides.base, key.removeprefix("+")) for key in contents[number]}
        others = {key for config in (*contents[:number], *contents[number + 1 :]) for key in config}
        for issue in Overrides(before, own, context=overrides.base).find_issues():
            elsewhere = issue.record in others or any(issue.record in other for other in overrides.elsewhere.values())
            near = find_nearest(issue.record, list(before), _ALIKE)
            misspelt = "#" in issue.record or (near and suits(before[near], own[issue.record]))
            if issue.code != "unknown-key" or (misspelt and not elsewhere):
                issues.append(replace(issue, message=f"{file}: {issue.message}"))
    return issues


def check_device(run: Run) -> list[Issue]:
    """Return what is wrong with a device that is typed and that this machine does not have."""
    import torch

    device = run.values.get("device")
    if not isinstance(device, str) or not re.fullmatch(r"cuda(:\d+)?", device):
        return []
    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) < count:
        return []
    hint = "type --device cpu" if count == 0 else f"type --device cuda:{count - 1}, or a smaller number"
    message = f"torch finds {'no GPU' if count == 0 else f'{count} GPUs'} here, so that device {device} does not exist"
    return [Issue("wrong-value", "error", message, "device", hint=hint)]


def keep_config_texts(config: Config) -> dict[str, Any]:
    """Return the texts of the configs that MONAI would change, in a form that it does not change, by id."""
    texts = {name: text for name, text in list_texts(config) if not any(map(is_remark, name.split("#")))}
    kept = {name: keep_texts(text) for name, text in texts.items()}
    return {name: text for name, text in kept.items() if text != texts[name]}


def find_root(run: Run, config: Config) -> dict[str, str]:
    """Return ``bundle_root`` as the folder above ``configs`` whose file was named, unless another was given."""
    folder = run.workflow.config_root_path
    if _ROOT not in config or _ROOT in run.values or folder.absolute().name != _CONFIGS:
        return {}
    extra = [Path(file) for file in run.files if Path(file).parent.resolve() != folder.resolve()]
    if any(_ROOT in (_read_other(path) or {}) for path in extra):
        return {}
    root = str(folder.parent) if folder.name == _CONFIGS else os.path.relpath(folder.absolute().parent)
    return {} if root == config[_ROOT] else {_ROOT: make_literal(root) if set(root) & set("#$@%") else root}


def refuse(issues: list[Issue]) -> None:
    """End the run with the first finding; of several processes the first one speaks.

    Raises:
        InputError: always.
    """
    if os.environ.get("RANK", "0") != "0":
        time.sleep(_PATIENCE)  # torchrun ends this process as soon as the first one has ended
        raise SystemExit(1)
    raise InputError(describe_first(issues))
