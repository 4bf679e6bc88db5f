"""A bundle's evaluation, opened for tuning: its configs, its switchable post-processing steps and their knobs."""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import faults
from pipeline.bundle.config_files import EVALUATE, TRAIN, find_extra, read_config
from pipeline.bundle.configs import find_references, list_texts
from pipeline.bundle.overrides.ids import MISSING, look_up
from pipeline.bundle.overrides.overrides import Overrides, describe_first
from pipeline.issues import InputError, find_input_error
from pipeline.tuning.settings import KNOBS, Setting

REFINE_FILE = "refine.json"
HEAD, REFINE = "to_probabilities", "refine"
KEY_METRIC = "validate#key_metric"
# Paths say where files lie; the digests of the files' content say what is in them.
_PATHS = ("bundle_root", "dataset_dir", "output_dir")


@dataclass(frozen=True)
class Workflow:
    """A bundle's evaluation."""

    bundle: Path  #: its folder
    extras: tuple[Path, ...]  #: the user's configs, in the order in which they override each other and the bundle's own
    parser: Any = field(repr=False)  #: MONAI's parser of all configs, with the values given on the command line
    knobs: Setting  #: the bundle's values of the knobs that its steps use
    metric: str  #: name of the key metric

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The steps after the probabilities, each as its config says."""
        return list(self.parser[REFINE])

    def digest(self, ids: Sequence[str], **more: Any) -> str:
        """Return a sha256 of the config under some ids and of all that they refer to, without knobs and paths."""
        parts = collect_settings(self.parser.get(), ids, leave_out=(*self.knobs, *_PATHS))
        text = json.dumps([parts, more], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def build_override(self, setting: Setting) -> dict[str, Any]:
        """Return a config with the steps that a setting switches on and the knobs that these steps use.

        It stands alone on top of ``inference.json``, or of ``train.json`` and ``evaluate.json``.
        """
        switches = {f"@{knob}": value for knob, value in setting.items() if knob.startswith("skip_")}
        active = [
            {key: value for key, value in step.items() if key != "_disabled_" or value not in switches}
            for step in self.steps
            if not switches.get(step.get("_disabled_", ""))
        ]
        used = collect_settings({**self.parser.get(), REFINE: active}, [REFINE])
        return {**{knob: value for knob, value in setting.items() if knob in used}, REFINE: active}


def open_workflow(bundle: Path, extras: Sequence[str], overrides: Mapping[str, Any]) -> Workflow:
    """Read the configs of a bundle's evaluation, with its switchable steps.

    Args:
        bundle: its folder.
        extras: more configs, as paths or as names in the bundle's ``configs``.
        overrides: value by id, as on the command line of ``monai.bundle run``.

    Raises:
        InputError: a config is missing or broken, an id is unknown, or the bundle has no steps to tune.
    """
    from monai.bundle import ConfigParser

    names = (TRAIN, EVALUATE, REFINE_FILE)
    for name in names:
        read_config(bundle, name)
    more = tuple(find_extra(bundle, name) for name in extras)
    with explain(f"{bundle}"):
        parser = ConfigParser()
        parser.read_config([str(path) for path in (*(bundle / "configs" / name for name in names), *more)])
    changes = Overrides(parser.get(), overrides)
    if issues := changes.find_issues():
        raise InputError(f"{bundle}: {describe_first(issues)}")
    parser.update(changes.read_values())
    with explain(f"{bundle}"):
        parser.parse(reset=True)
    config = parser.get()
    used = collect_settings(config, [REFINE])
    knobs = {knob: config[knob] for knob in KNOBS if knob in used and knob in config}
    metric = next(iter(parser.get(KEY_METRIC, {})), None)
    if HEAD not in config or metric is None or not any(knob.startswith("skip_") for knob in knobs):
        raise InputError(
            f"{bundle / 'configs'}: nothing to tune; expected {HEAD!r} and {KEY_METRIC!r} in {EVALUATE} and, in "
            f'{REFINE_FILE}, a list {REFINE!r} of steps with switches such as "_disabled_": "@skip_crf". '
            "Compare with a bundle in bundles/, and leave configs that replace the list out of --config_file"
        )
    return Workflow(bundle, more, parser, knobs, str(metric))


def collect_settings(config: Any, roots: Sequence[str], leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """Return the parts of a config under some ids, and all parts that they refer to.

    Example:
        >>> collect_settings({"a": {"b": "@c"}, "c": "$@d + 1", "d": 2, "e": 3}, ["a#b"])
        {'a#b': '@c', 'c': '$@d + 1', 'd': 2}
    """
    found: dict[str, Any] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop(0)
        if name in found or name in leave_out:
            continue
        part = look_up(config, name)
        found[name] = None if part is MISSING else part
        for _, text in list_texts(found[name]):
            waiting += sorted(find_references(text))
    return found


@contextmanager
def explain(place: str) -> Iterator[None]:
    """Turn the long trace of a config error into one line with its cause; hide MONAI's warnings about the config."""
    try:
        with silence(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        if own := find_input_error(error):
            raise own from own.__cause__
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise InputError(f"{place}: {faults.explain(error) or f'{type(cause).__name__}: {cause}'}") from error


@contextmanager
def silence() -> Iterator[None]:
    """Switch logging off for a while: bars show progress, and errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(level)


def list_versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    import monai
    import numpy
    import torch

    import pipeline

    return {module.__name__: str(module.__version__) for module in (pipeline, monai, torch, numpy)}


def is_default_root(workflow: Workflow) -> bool:
    """Return whether the bundle's configs find it from the current folder without ``--bundle_root``."""
    root = str(read_config(workflow.bundle, TRAIN).get("bundle_root", ""))
    return os.path.abspath(root) == os.path.abspath(workflow.bundle)
