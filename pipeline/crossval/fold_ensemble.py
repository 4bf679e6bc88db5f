"""Overrides that predict and evaluate with the mean of all folds, from the bundle's own ``ensemble.json``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.bundle.config_files import EVALUATE, INFERENCE, TRAIN, read_config
from pipeline.bundle.formatting import format_config
from pipeline.bundle.overrides.ids import is_remark
from pipeline.bundle.overrides.literals import keep_texts
from pipeline.bundle.overrides.overrides import Overrides
from pipeline.crossval.experiment import Experiment, load_configs, read_extra
from pipeline.crossval.fold_job import WEIGHTS

#: Override of ``inference.json``, and that of ``train.json`` and ``evaluate.json``
ENSEMBLE, ENSEMBLE_EVALUATE = "ensemble.json", "ensemble_evaluate.json"
_INFERER = "evaluator#inferer"
_EVALUATED = f"validate#{_INFERER}"
# What the user of an override decides anew.
_LEFT_OUT = ("bundle_root", "dataset_dir", "device", "input", "manifest", "num_workers", "output_dir")


def write_ensemble(experiment: Experiment, folds: Sequence[int]) -> Path | None:
    """Write `ENSEMBLE` and `ENSEMBLE_EVALUATE` into the folder of an experiment.

    They hold the paths of the weights, and those of the experiment's own settings that a prediction has too, such as
    the size of the network. The mean is that of probabilities, see `pipeline.inferers.EnsembleInferer`.

    Returns:
        The override for predictions; None if the bundle has no ``ensemble.json`` for `_INFERER`.
    """
    own = read_config(experiment.bundle, ENSEMBLE, optional=True)
    if _INFERER not in own:
        return None
    files = [str((experiment.folder / f"fold_{fold}" / WEIGHTS).absolute()) for fold in folds]
    for name, complete, place, more in (
        (ENSEMBLE, [INFERENCE], _INFERER, {}),
        (ENSEMBLE_EVALUATE, [TRAIN, EVALUATE], _EVALUATED, {"inferer": "@validate#inferer"}),
    ):
        files_text = " and ".join(complete)
        override = {
            "_desc_": f"Override of {files_text}: the mean probabilities of the folds of a cross-validation",
            **collect_known(experiment, load_configs(experiment.bundle, complete)),
            **{key: value for key, value in own.items() if key not in ("_desc_", _INFERER)},
            "checkpoints": keep_texts(files),
            place: {**own[_INFERER], **more},
        }
        with write_atomically(experiment.folder / name) as stream:
            stream.write(format_config(override))
    return experiment.folder / ENSEMBLE


def collect_known(experiment: Experiment, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of an experiment that a config has, but for paths and the like."""
    given: dict[str, Any] = {}
    for path in experiment.extras:
        given |= read_extra(path)
    given |= experiment.values
    known = {}
    for name, value in given.items():
        if is_remark(name) or name in _LEFT_OUT:
            continue
        issues = Overrides(dict(config), {name: value}, context=given).find_issues()
        if not any(issue.code == "unknown-key" for issue in issues):
            known[name] = value
    return known
