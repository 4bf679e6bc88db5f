"""A bundle's evaluation, opened to be tuned: what yields probabilities, what comes after them, and the knobs."""

from __future__ import annotations

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

from pipeline.bundle.config_files import EVALUATE, TRAIN, read_config, suggest_name
from pipeline.bundle.configs import find_references, list_texts
from pipeline.issues import InputError
from pipeline.tuning.settings import KNOBS, Setting

CHAIN = "validate#postprocessing#transforms"
KEY_METRIC = "validate#key_metric"
_FIRST = "@skip_crf"  # disables the first step that is tuned


@dataclass(frozen=True)
class Workflow:
    """A bundle's evaluation.

    Attributes:
        bundle: its folder.
        files: the configs, in the order in which they override each other.
        parser: MONAI's parser of them, with the values of the command.
        head: steps of post-processing up to the probabilities.
        tail: the steps after them.
        knobs: values of the tail's knobs as the bundle has them.
        metric: name of the key metric.
    """

    bundle: Path
    files: tuple[Path, ...]
    parser: Any = field(repr=False)
    head: list[Any]
    tail: list[Any]
    knobs: Setting
    metric: str

    def digest(self, roots: Sequence[str], **more: Any) -> str:
        """Return a sha256 of all that is said in the config under some ids, and of what they refer to.

        Values of the knobs are left out, and so are paths, which the digests of files stand for.
        """
        said = collect_settings(
            self.parser.get(), roots, leave_out=(*self.knobs, "bundle_root", "dataset_dir", "output_dir")
        )
        text = json.dumps([said, more], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def open_workflow(bundle: Path, extras: Sequence[str], overrides: Mapping[str, Any]) -> Workflow:
    """Read the configs of a bundle's evaluation.

    Args:
        bundle: its folder.
        extras: more configs, as paths or as names in the bundle's ``configs``.
        overrides: value by id, as on the command line of ``monai.bundle run``.

    Raises:
        InputError: a config is missing or broken, an id is unknown, or the bundle has no steps to tune.
    """
    from monai.bundle import ConfigParser

    files = [bundle / "configs" / name for name in (TRAIN, EVALUATE)]
    for path in files:
        read_config(bundle, path.name)
    files += [_find_extra(bundle, name) for name in extras]
    with explain(f"{bundle}"):
        parser = ConfigParser()
        parser.read_config([str(path) for path in files])
    for name, value in overrides.items():
        _require_known(parser, name, bundle)
        parser[name] = value
    with explain(f"{bundle}"):
        parser.parse(reset=True)
    chain = parser.get(CHAIN, [])
    cut = find_cut(chain)
    metric = next(iter(parser.get(KEY_METRIC, {})), None)
    if cut is None or metric is None:
        raise InputError(
            f'{bundle / "configs" / EVALUATE}: {CHAIN} has no step with "_disabled_": "{_FIRST}", so there is '
            "nothing to tune; compare it with that of a bundle in bundles/"
        )
    config = parser.get()
    used = collect_settings(config, [f"{CHAIN}#{number}" for number in range(cut, len(chain))])
    knobs = {knob: config[knob] for knob in KNOBS if knob in used}
    return Workflow(bundle, tuple(files), parser, chain[:cut], chain[cut:], knobs, str(metric))


def find_cut(chain: Sequence[Any]) -> int | None:
    """Return the number of the first step that is tuned: what comes before yields probabilities on the label's grid.

    Example:
        >>> find_cut([{"_target_": "Activationsd"}, {"_target_": "X", "_disabled_": "@skip_crf"}])
        1
    """
    places = [n for n, step in enumerate(chain) if isinstance(step, Mapping) and step.get("_disabled_") == _FIRST]
    return places[0] if places else None


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
        found[name] = _look_up(config, name)
        for _, text in list_texts(found[name]):
            waiting += sorted(find_references(text))
    return found


def _look_up(config: Any, name: str) -> Any:
    for part in name.split("#"):
        if isinstance(config, Mapping):
            config = config.get(part)
        elif isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        else:
            return None
    return config


def _find_extra(bundle: Path, name: str) -> Path:
    for path in (Path(name), bundle / "configs" / name):
        if path.is_file():
            return path
    known = [path.name for path in (bundle / "configs").glob("*.json")]
    raise InputError(f"--config_file: there is no {name}, nor one in {bundle / 'configs'}; {suggest_name(name, known)}")


def _require_known(parser: Any, name: str, bundle: Path) -> None:
    """Refuse an id that the config does not have, which MONAI would add in silence; a part of one may be new."""
    parent = name.replace("::", "#").rpartition("#")[0] or name
    if parent not in parser:
        hint = suggest_name(parent, (str(key) for key in parser.get()))
        raise InputError(f"the configs of {bundle} have no {parent!r}; {hint}")


@contextmanager
def explain(place: str) -> Iterator[None]:
    """Turn the long trace of a config into one line with the cause, and keep MONAI's warnings of it away."""
    try:
        with silence(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, InputError):
            raise cause from None
        raise InputError(f"{place}: {type(cause).__name__}: {cause}") from error


@contextmanager
def silence() -> Iterator[None]:
    """Log nothing for a while; progress is shown by bars, and errors are raised."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(level)


def list_versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    import monai
    import numpy
    import torch

    from pipeline import __version__

    return {
        "pipeline": __version__,
        "monai": monai.__version__,
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
    }


def is_default_root(workflow: Workflow) -> bool:
    """Return whether the bundle's configs find it from the current folder without ``--bundle_root``."""
    root = str(read_config(workflow.bundle, TRAIN).get("bundle_root", ""))
    return os.path.abspath(root) == os.path.abspath(workflow.bundle)
