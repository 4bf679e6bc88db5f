"""A bundle's ``inference.json``, with what the user wants changed in it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.bundle.config_failures import be_quiet
from pipeline.bundle.config_files import DOWNLOADS, INFERENCE, find_extra, read_config
from pipeline.bundle.overrides.literals import make_literal
from pipeline.bundle.overrides.overrides import Overrides, describe_first
from pipeline.issues import InputError
from pipeline.prediction.class_names import read_class_names
from pipeline.prediction.prediction_options import PredictionOptions
from pipeline.weights import list_checkpoints

#: The item that finds the cases
CASES = "dataset#data"
_PARTS = ("dataset", "evaluator", "input", "output_dir", "refine", "run", "save")
_SAVERS = ("SaveImageMaskd", "SaveImageStackd")
_MAPS = "pipeline.transforms.SaveImageMapsd"
_MEASURE = {"_target_": "pipeline.transforms.MeasureProbabilitiesd", "keys": "pred"}
# Handlers that print what this command prints in its own way.
_LOUD = ("RunProgress", "ProgressBar", "StatsHandler")


def open_inference(options: PredictionOptions) -> Any:
    """Return MONAI's workflow of the bundle's inference, changed as the options say, and not initialised.

    Args:
        options: what is asked for.

    Raises:
        InputError: a config is missing or broken, an override is wrong, or the bundle cannot do what is asked for.
    """
    from monai.bundle import ConfigWorkflow

    bundle = options.bundle
    read_config(bundle, INFERENCE)
    files = [bundle / "configs" / INFERENCE, *(find_extra(bundle, name) for name in options.configs)]
    with be_quiet():
        workflow = ConfigWorkflow([str(file) for file in files], logging_file=False, workflow_type="inference")
    config = workflow.parser.get()
    missing = [name for name in _PARTS if name not in config]
    if missing:
        hint = f"run it with python -m monai.bundle run --config_file {files[0]}"
        raise InputError(f"{files[0]} has no {missing[0]!r}, which predict needs; {hint}")
    changes = Overrides(config, options.values)
    if issues := changes.find_issues():
        raise InputError(f"--set: {describe_first(issues)}")
    for name, value in {**_place(options, config), **changes.read_values()}.items():
        workflow.parser[name] = value
    for name, part in _change_steps(options, workflow.parser.get()).items():
        workflow.parser[name] = part
    return workflow


def _place(options: PredictionOptions, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return where things lie and where they run."""
    paths = {"bundle_root": options.bundle.absolute(), "output_dir": options.output_dir}
    values = {name: make_literal(str(path)) for name, path in paths.items() if name in config}
    if options.checkpoint is not None:
        values["checkpoint"] = make_literal(options.checkpoint)
    if options.device is not None:
        _require_device(options.device)
        values["device"] = f"$torch.device({options.device!r})"
    # Where one case must not take others with it, a batch is a case.
    return {**values, **({"dataloader#batch_size": 1} if options.keep_going and "dataloader" in config else {})}


def _require_device(name: str) -> None:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device: there is no device {name!r}; expected cpu, cuda or cuda:0") from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise InputError(f"--device {name}: torch finds {count or 'no'} GPU here; type --device cpu, or leave it out")


def _change_steps(options: PredictionOptions, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the steps that write, the steps before them, and the handlers."""
    names = read_class_names(options.bundle)
    steps = [_change_saver(step, options, names) for step in config["save"]]
    place = options.bundle / "configs" / INFERENCE
    if not any(_is_named(step, _SAVERS) for step in steps):
        raise InputError(f"{place}: 'save' has none of the steps {' and '.join(_SAVERS)}, which predict needs")
    parts: dict[str, Any] = {"save": steps, "refine": [_MEASURE, *config["refine"]]}
    if options.probabilities or options.doubt:
        maps = {
            "_target_": _MAPS,
            "keys": "pred",
            "output_dir": "@output_dir",
            "names": _make_texts(names),
            "probabilities": options.probabilities,
            "doubt": options.doubt,
        }
        parts["refine"].insert(0, maps)
    if isinstance(config.get("handlers"), list):
        parts["handlers"] = [item for item in config["handlers"] if not _is_named(item, _LOUD)]
    return parts


def _change_saver(step: Any, options: PredictionOptions, names: Mapping[int, str]) -> Any:
    if not _is_named(step, _SAVERS):
        return step
    changed = dict(step)
    if options.format is not None:
        changed["format"] = options.format
    if options.overlay:
        changed["overlay"] = True
    if _is_named(step, _SAVERS[1:]):
        if options.figure:
            raise InputError(f"--figure: {options.bundle.name} writes a mask per slice and has none; use --overlay")
        return changed
    if options.figure:
        changed["figure"] = True
    return {**changed, "names": _make_texts(names)} if options.format == "seg" else changed


def _make_texts(names: Mapping[int, str]) -> dict[str, str]:
    return {str(label): make_literal(name) for label, name in names.items()}


def _is_named(item: Any, names: Sequence[str]) -> bool:
    target = str(item.get("_target_", "")) if isinstance(item, dict) else ""
    return target.rpartition(".")[2] in names


def require_weights(parser: Any, bundle: Path) -> None:
    """Require that the file of the weights exists, before any image is read.

    Args:
        parser: of the configs.
        bundle: its folder.

    Raises:
        InputError: there is no such file.
    """
    if "checkpoint" not in parser:
        return
    files = list_checkpoints(parser.get_parsed_content("checkpoint"))
    lost = next((file for file in files if not file.is_file()), None)
    if lost is None and files:
        return
    hint = "name a file: --checkpoint FILE, such as the model.pt in the output folder of a training"
    if (bundle / DOWNLOADS).is_file():
        hint = f"download it: python -m monai.bundle download_large_files --bundle_path {bundle}"
    raise InputError(f"no weights at {lost or bundle}; {hint}")
