"""``crossval.json``: the settings that a folder of folds was made with, which must stay the same."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.atomic import write_atomically
from pipeline.bundle.config_files import EVALUATE, TRAIN
from pipeline.crossval.experiment import Experiment
from pipeline.issues import InputError

FILE = "crossval.json"
SCHEMA = 1
# Where things lie and run, which changes no result.
_FREE = ("bundle_root", "check", "dataset_dir", "device", "manifest", "num_workers")
_ADVICE = "set it back, or choose another --output_dir"


def keep_settings(experiment: Experiment) -> None:
    """Write the settings of an experiment into its folder, or compare them with those that are there.

    Raises:
        InputError: the folder holds folds of other settings, or another run.
    """
    path = experiment.folder / FILE
    settings = describe_settings(experiment)
    if path.is_file():
        _compare(path, _read(path), settings)
    elif foreign := next((name for name in ("run.json", "evaluate.json") if (path.parent / name).is_file()), None):
        raise InputError(f"{path.parent} holds {foreign} of another run; choose another --output_dir")
    content = {
        "schema": SCHEMA,
        "settings": settings,
        "folds": list(experiment.folds.chosen),
        "of": experiment.folds.total,
    }
    with write_atomically(path) as stream:
        json.dump(content, stream, indent=4)


def describe_settings(experiment: Experiment) -> dict[str, str]:
    """Return what decides the results, in texts by name."""
    configs = [experiment.bundle / "configs" / name for name in (TRAIN, EVALUATE)]
    return {
        "bundle": experiment.bundle.absolute().name,
        "the manifest": _digest(experiment.manifest),
        **{f"config {path.name}": _digest(path) for path in (*configs, *experiment.extras)},
        **{f"--set {name}": text for name, text in sorted(experiment.words.items()) if name not in _FREE},
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path) -> dict[str, str]:
    try:
        return {str(name): str(text) for name, text in json.loads(path.read_text("utf-8"))["settings"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged; choose another --output_dir") from None


def _compare(path: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not names:
        return
    first = names[0]
    change = f"was {before.get(first, 'not given')}, is {now.get(first, 'not given')}"
    if first.startswith(("config ", "the manifest")):  # whose values are digests
        change = "has changed" if first in before and first in now else "was not named" if first in now else "was named"
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    raise InputError(f"{path.parent} was made with other settings: {first} {change}{more}; {_ADVICE}")
