"""What is cross-validated: a bundle's configs with overrides, its manifest and folds, and the jobs that follow."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.config_failures import be_quiet, explain_failure
from pipeline.bundle.config_files import (
    EVALUATE,
    METADATA,
    TRAIN,
    find_extra,
    find_output,
    list_configs,
    read_config,
    read_json,
)
from pipeline.bundle.overrides.assignments import read_word
from pipeline.bundle.overrides.overrides import Overrides, describe_first
from pipeline.crossval.crossval_options import CrossvalOptions
from pipeline.crossval.fold_choice import FoldChoice, choose_folds
from pipeline.crossval.fold_job import FoldJob
from pipeline.datasets.checks.integrity import require_dataset
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.issues import InputError

# What each fold sets itself, and what to type instead.
_OURS = {
    "fold": "leave it out, or choose how many with --folds",
    "output_dir": "type --output_dir DIR",
    "resume": "leave it out: what is not finished is resumed",
    "checkpoint": "leave it out: each fold is scored with its own weights",
    "split": "leave it out: each fold is scored on its own validation cases",
}


@dataclass(frozen=True)
class Experiment:
    """One setting of a bundle, to be trained and scored on each fold."""

    bundle: Path  #: its folder
    setting: str  #: name of the setting in a sweep; "" without one
    folder: Path  #: folder of the results
    extras: tuple[Path, ...]  #: the user's configs, after those of the bundle
    words: Mapping[str, str]  #: overrides as typed, by id
    values: Mapping[str, Any]  #: the same as values for MONAI
    only_evaluation: frozenset[str]  #: ids that only the evaluation has
    manifest: Path  #: file of the dataset
    folds: FoldChoice  #: of the manifest

    def list_jobs(self) -> list[FoldJob]:
        """Return the jobs, one for each fold."""
        configs = self.bundle / "configs"
        extras = tuple(str(path) for path in self.extras)
        typed = {name: f"--{name}={text}" for name, text in self.words.items()}
        return [
            FoldJob(
                fold=fold,
                setting=self.setting,
                folder=str(self.folder / f"fold_{fold}"),
                train=(str(configs / TRAIN), *extras),
                evaluate=(str(configs / TRAIN), str(configs / EVALUATE), *extras),
                train_words=tuple(word for name, word in typed.items() if name not in self.only_evaluation),
                evaluate_words=tuple(typed.values()),
                cwd=os.getcwd(),
            )
            for fold in self.folds.chosen
        ]


def find_folder(options: CrossvalOptions) -> Path:
    """Return the folder of all results."""
    return options.output_dir or find_output(options.bundle, read_config(options.bundle, TRAIN)) / "crossval"


def open_experiment(options: CrossvalOptions, setting: str, words: Mapping[str, str]) -> Experiment:
    """Read and check what a setting needs, before anything is trained.

    Args:
        options: what is asked for.
        setting: its name in a sweep.
        words: its overrides as typed, which come after those of the options.

    Raises:
        InputError: a config, an override, the manifest or the dataset is not as expected.
    """
    bundle = options.bundle
    for name in (TRAIN, EVALUATE):
        read_config(bundle, name)
    extras = tuple(find_extra(bundle, name) for name in options.configs)
    _refuse_ours(options.words, words, extras)
    typed = {**options.words, **words}
    overrides, only_evaluation = check_overrides(bundle, extras, typed)
    values = overrides.read_values()
    places = _read_places(bundle, overrides.base, values)
    manifest = Path(places["manifest"])
    data = read_manifest(manifest, Path(places["dataset_dir"]))
    folds = choose_folds(data, manifest, options.folds)
    require_dataset(data, Path(os.path.abspath(places["dataset_dir"])), data.cases)
    return Experiment(
        bundle=bundle,
        setting=setting,
        folder=find_folder(options) / setting,
        extras=extras,
        words=typed,
        values=values,
        only_evaluation=only_evaluation,
        manifest=manifest,
        folds=folds,
    )


def _refuse_ours(words: Mapping[str, str], swept: Mapping[str, str], extras: Sequence[Path]) -> None:
    for option, names in (("--set", words), ("--sweep", swept)):
        name = next((name for name in names if name in _OURS), None)
        if name is not None:
            raise InputError(f"{option} {name}: crossval sets it itself; {_OURS[name]}")
    twice = next((name for name in swept if name in words), None)
    if twice is not None:
        raise InputError(f"--sweep {twice}: --set names it too; leave one out")
    for path in extras:
        content = read_extra(path)
        name = next((name for name in _OURS if name in content), None)
        if name is not None:
            raise InputError(f"--config_file {path} sets {name!r}, which crossval sets itself; {_OURS[name]}")


def check_overrides(bundle: Path, extras: Sequence[Path], words: Mapping[str, str]) -> tuple[Overrides, frozenset[str]]:
    """Compare overrides with the configs of training and evaluation.

    Returns:
        The overrides of the evaluation, which has the training's ids too, and the ids that only it has.

    Raises:
        InputError: one is wrong for both.
    """
    values = {name: read_word(text) for name, text in words.items()}
    training = Overrides(load_configs(bundle, [TRAIN], extras), values, words)
    named = {path.resolve() for path in extras}
    others = [path for path in list_configs(bundle / "configs") if path.resolve() not in named]
    others = [path for path in others if path.name not in (TRAIN, EVALUATE, METADATA)]
    elsewhere = {path.name: read_json(path) for path in others}
    evaluation = Overrides(load_configs(bundle, [TRAIN, EVALUATE], extras), values, words, elsewhere)
    if issues := evaluation.find_issues():
        raise InputError(f"--set or --sweep: {describe_first(issues)}")
    unknown = {issue.record for issue in training.find_issues() if issue.code == "unknown-key"}
    return evaluation, frozenset(name for name in words if name in unknown)


def load_configs(bundle: Path, names: Sequence[str], extras: Sequence[Path] = ()) -> dict[str, Any]:
    """Return configs of a bundle and of the user as MONAI merges them.

    Args:
        bundle: its folder.
        names: files in its ``configs``.
        extras: files that change them.

    Raises:
        InputError: one cannot be read.
    """
    from monai.bundle import ConfigParser

    files = [*(bundle / "configs" / name for name in names), *extras]
    with explain_failure(f"{bundle}", f"compare {', '.join(map(str, files))}"):
        return dict(ConfigParser.load_config_files([str(file) for file in files]))


def read_extra(path: Path) -> dict[str, Any]:
    """Return what is in a config of the user.

    Raises:
        InputError: it cannot be read.
    """
    from monai.bundle import ConfigParser

    with explain_failure(f"{path}", "expected a config in JSON or YAML"):
        return dict(ConfigParser.load_config_file(str(path)))


def _read_places(bundle: Path, config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """Return where manifest and dataset lie."""
    from monai.bundle import ConfigParser

    parser = ConfigParser({**config, "bundle_root": str(bundle)})
    with explain_failure(f"{bundle}", "name them with --manifest FILE and --dataset_dir DIR"), be_quiet():
        for name, value in values.items():
            parser[name] = value
        return {name: str(parser.get_parsed_content(name)) for name in ("manifest", "dataset_dir")}
