"""The settings of a training that a resume must not change, and those that it may."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import monai
import torch
from ignite.engine import Engine
from torch.optim import Optimizer

from pipeline.handlers.run.batch_cases import is_handed_over, list_items, name_item
from pipeline.issues import InputError
from pipeline.parallel.wrapped import unwrap_network

_LOGGER = logging.getLogger(__name__)
# Entry -> what it is, and the setting to set back.
_REFUSED = {
    "train_cases": ("the training cases are", "--fold and --manifest"),
    "val_cases": ("the validation cases are", "--fold and --manifest"),
    "manifest": ("the content of the manifest is", "--manifest or the file"),
    "optimizers": ("the optimizer is", "optimizer"),
    "layers": ("the layers of the network (such as an activation) are", "network_def"),
}
_WARNED = ("seed", "batch_size", "processes", "num_workers", "epoch_length")


def describe_settings(
    objects: Mapping[str, Any],
    loader: Any = None,
    evaluator: Engine | None = None,
    seed: int | None = None,
    manifest: str | Path | None = None,
) -> dict[str, Any]:
    """Describe a training in a few texts and numbers, to be saved in its checkpoints.

    Args:
        objects: network and optimizer by name.
        loader: of the training.
        evaluator: with the loader of the validation.
        seed: of the run.
        manifest: file of the dataset; does not count where a client of the bundle brought the cases.

    Returns:
        Entries that are unknown are None.

    Example:
        >>> loader = torch.utils.data.DataLoader([{"case_id": "a"}, {"case_id": "b"}], batch_size=2)
        >>> describe_settings({}, loader, seed=1)["batch_size"]
        2
    """
    networks = [unwrap_network(item) for item in objects.values() if isinstance(item, torch.nn.Module)]
    size = getattr(loader, "batch_size", None)
    return {
        "train_cases": _digest_cases(loader),
        "val_cases": _digest_cases(getattr(evaluator, "data_loader", None)),
        "manifest": None if manifest is None or is_handed_over(loader) else _digest(Path(manifest).read_bytes()),
        "optimizers": [type(item).__name__ for item in objects.values() if isinstance(item, Optimizer)],
        # torch and MONAI describe layers in other words from version to version.
        "layers": _digest(f"{torch.__version__} {monai.__version__} {networks}".encode()) if networks else None,
        "versions": f"{torch.__version__} {monai.__version__}",
        "seed": seed,
        "batch_size": None if size is None else size * idist.get_world_size(),
        "processes": idist.get_world_size(),
        "num_workers": getattr(loader, "num_workers", None),  # each draws random numbers of its own
    }


def check_settings(saved: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on with other data or another network; say what else makes the resumed run differ.

    Args:
        saved: `describe_settings` of the checkpoint; empty in one of an earlier version of this package.
        now: of this run.
        path: of the checkpoint.

    Raises:
        InputError: a setting has changed that must not.
    """
    for name, (what, setting) in _REFUSED.items():
        if name == "layers" and saved.get("versions") != now.get("versions"):
            continue
        if _differ(saved, now, name):
            raise InputError(
                f"resume: {what} not as in {path}: set {setting} back, or start a new run in another --output_dir"
            )
    changes = [f"{name} is {now[name]}, was {saved[name]}" for name in _WARNED if _differ(saved, now, name)]
    if changes:
        _LOGGER.warning("resume: %s: the losses are no longer those of the first run", "; ".join(changes))


def _differ(saved: Mapping[str, Any], now: Mapping[str, Any], name: str) -> bool:
    return saved.get(name) is not None and now.get(name) is not None and saved[name] != now[name]


def _digest_cases(loader: Any) -> str | None:
    names = [name_item(item) if isinstance(item, Mapping) else None for item in list_items(loader)]
    return None if None in names or not names else f"{len(names)} {_digest(repr(names).encode())}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
