"""Write the best and last checkpoints of a training, and resume from them."""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from pipeline.atomic import format_bytes
from pipeline.flags import read_flag
from pipeline.handlers.checkpoints.atomic_save import OVERHEAD, count_bytes, remove_stale, save_state
from pipeline.handlers.checkpoints.checkpoint_files import LAST_PATTERN, find_last, improves, name_last, read_newest
from pipeline.handlers.checkpoints.client_weights import ClientWeights
from pipeline.handlers.checkpoints.restoring import list_rates, restore_objects
from pipeline.handlers.checkpoints.run_settings import check_settings, describe_settings
from pipeline.handlers.run.batch_cases import has_no_cases, is_handed_over
from pipeline.handlers.run.exits import keep_one_line
from pipeline.issues import InputError
from pipeline.parallel.agreement import agree_on, collect, exit_together
from pipeline.parallel.wrapped import unwrap_network
from pipeline.weights import read_plain

_LOGGER = logging.getLogger(__name__)
_RESERVED = ("trainer", "scaler", "best", "settings")
_LOGS = 1_000_000  # bytes reserved for TensorBoard, tables and run.json


@dataclass(eq=False, repr=False)
class TrainingCheckpoint:
    """Write the best and the last checkpoints of a training, and resume from the last.

    *Best* is ``output_dir/<best_name>``: the raw state dict of the network, replaced when the key metric of a
    validation improves (according to the evaluator's ``metric_cmp_fn``; NaN never improves). *Last* is one file per
    epoch, ``last_epoch=N.pt``, of which the newest ``n_saved`` are kept: everything in ``to_save``, the trainer's
    counters, the gradient scaler and the best metric so far. Both load with ``weights_only=True``. A kill at any moment
    leaves complete files only.

    A resumed run continues after the last complete epoch. With `EpochSeed` its losses are exactly those of an
    uninterrupted run. Its length, learning rate and other hyper-parameters may change: from here on it goes on as an
    uninterrupted run with the new settings would, see `restore_objects`. Other cases or another network are refused.

    A trainer that is run again, as in the rounds of federated learning, goes on with the weights that its network has.
    Where a client of the bundle brought the cases (`is_handed_over`), a new training replaces the checkpoints of an
    earlier one, and the best weights are also written to where clients read them, see `ClientWeights`.

    Raises:
        InputError: when the run starts: there is nothing to resume from, the checkpoint does not fit, ``output_dir``
            contains another run's checkpoints, or there is too little disk space; in the run: the disk is full, or the
            evaluator has no such metric.
        ValueError: ``to_save`` lacks ``network_key`` or uses a reserved name, or ``n_saved`` is below 1.

    Note:
        In ``train#handlers`` it comes after ``ValidationHandler``, so that *last* includes the epoch's validation.
    """

    output_dir: str | Path  #: folder of the run
    #: the objects that resuming needs, by name: network, optimizer, learning-rate scheduler
    to_save: Mapping[str, Any]
    evaluator: Engine  #: the engine that `monai.handlers.ValidationHandler` runs
    key_metric: str = "val_mean_dice"  #: name in ``evaluator.state.metrics``
    n_saved: int = 2  #: number of *last* checkpoints to keep; with 2 or more, one remains if the newest is damaged
    resume: bool | str = False  #: continue from the newest checkpoint that can be loaded
    best_name: str = "model.pt"  #: file name of the best weights
    network_key: str = "network"  #: name of the network in ``to_save``
    loader: Any = None  #: of the training; with it a resume notices other cases and another batch size
    seed: int | None = None  #: of the run; with it a resume notices another one
    manifest: str | Path | None = None  #: file of the dataset; with it a resume notices another one
    ckpt_dir: str | Path | None = None  #: where clients of the bundle look for ``best_name``; needs ``loader``

    def __post_init__(self) -> None:
        if self.network_key not in self.to_save:
            raise ValueError(f"to_save has no {self.network_key!r}, only {sorted(self.to_save)}")
        taken = sorted(set(_RESERVED) & set(self.to_save))
        if taken:
            raise ValueError(f"to_save must not name {', '.join(taken)}: it is always saved")
        if self.n_saved < 1:
            raise ValueError(f"n_saved must be at least 1, got {self.n_saved}")
        self.folder = Path(self.output_dir)
        self.best_path = self.folder / self.best_name
        self.to_save = dict(self.to_save)
        self.resume = read_flag(self.resume, "resume")
        self.best_metric: float | None = None
        self.best_epoch: int | None = None
        self._verified = self._begun = False
        self._replaced: list[Path] = []
        handed_over = self.ckpt_dir is not None and is_handed_over(self.loader)
        self._client_weights = ClientWeights(self.best_path, Path(str(self.ckpt_dir))) if handed_over else None
        self._first_rates = list_rates(self.to_save)
        self._settings: dict[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Save after every epoch of ``engine``, the trainer, and after every validation in it."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save_last)
        self.evaluator.add_event_handler(Events.COMPLETED, self.save_best, engine)
        keep_one_line(engine)
        keep_one_line(self.evaluator)

    def start(self, trainer: Engine) -> None:
        """Clean up, restore if ``resume``, and check that the disk has enough space."""
        with exit_together():
            self._start(trainer)
        with exit_together():
            epochs = collect(trainer.state.epoch)
            if len(set(epochs)) > 1:
                raise InputError(
                    f"resume: the processes found checkpoints of different epochs, {', '.join(map(str, epochs))}: "
                    "--output_dir must be a folder that all machines share"
                )

    def _start(self, trainer: Engine) -> None:
        if _is_main():
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in remove_stale(self.folder, (LAST_PATTERN, re.escape(self.best_name))):
                _LOGGER.info("removed %s of a killed run", path)
        self._settings = {
            **describe_settings(self.to_save, self.loader, self.evaluator, self.seed, self.manifest),
            "epoch_length": trainer.state.epoch_length,
            "first_rates": self._first_rates,
        }
        if self._client_weights is not None and _is_main() and not self._begun:
            self._client_weights.begin()
        if has_no_cases(self.evaluator) and not self._begun:
            _LOGGER.warning("there are no validation cases: %s gets the weights of each epoch", self.best_path)
        if self._begun:
            if trainer.state.epoch == 0:
                self._begin_anew()
        elif self.resume:
            self._restore(trainer)
        elif find_last(self.folder):
            self._replace_earlier_run()
        elif self.best_path.exists():
            _LOGGER.warning("%s exists and will be replaced after the first validation", self.best_path)
        self._check_space()
        self._begun = True

    def _replace_earlier_run(self) -> None:
        newest = find_last(self.folder)[0]
        if not is_handed_over(self.loader):
            raise InputError(
                f"{newest} is from an earlier run: continue it with --resume true, or choose another --output_dir"
            )
        _LOGGER.warning("%s is from an earlier run: this training starts anew and replaces its checkpoints", newest)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._replaced = find_last(self.folder)  # until there is a new one
        self.best_metric = self.best_epoch = None
        self._tell_evaluator()

    def save_best(self, evaluator: Engine, trainer: Engine) -> None:
        """Save the network if this validation is the best so far."""
        metrics = evaluator.state.metrics
        with exit_together():
            if self.key_metric not in metrics:
                known = f"choose one of {', '.join(map(repr, metrics))}"
                raise InputError(f"key_metric {self.key_metric!r} is not a metric of the evaluator; {known}")
        metric = float(metrics[self.key_metric])
        is_best = agree_on(improves(self.evaluator, metric, self.best_metric))
        if is_best:
            with exit_together():
                if _is_main():
                    self._write_best()
            self.best_metric, self.best_epoch = metric, trainer.state.epoch
        evaluator.state.is_best = is_best  # type: ignore[attr-defined]  # `CaseMetricsSaver` keeps the tables of the best
        self._tell_evaluator()

    def save_last(self, trainer: Engine) -> None:
        """Save the full state, then remove all but the newest ``n_saved``."""
        with exit_together():
            if not _is_main():
                return
            path = self.folder / name_last(trainer.state.epoch)
            if has_no_cases(self.evaluator):
                self._write_best()  # nothing tells which epoch is the best
            self._write(self._full_state(trainer), path)
            if not self._verified:
                _verify(path)
                self._verified = True
            for old in self._replaced:
                if old != path:
                    old.unlink(missing_ok=True)
            self._replaced = []
            for old in find_last(self.folder)[self.n_saved :]:
                old.unlink(missing_ok=True)

    def _full_state(self, trainer: Engine) -> dict[str, Any]:
        state = {name: self._collect(name) for name in self.to_save}
        state["trainer"] = {**trainer.state_dict(), "epoch": trainer.state.epoch}
        state["best"] = {"metric": self.best_metric, "epoch": self.best_epoch, "key_metric": self.key_metric}
        state["settings"] = self._settings
        scaler = getattr(trainer, "scaler", None)
        if scaler is not None:
            state["scaler"] = scaler.state_dict()
        return state

    def _collect(self, name: str) -> Any:
        return unwrap_network(self.to_save[name]).state_dict()

    def _write_best(self) -> None:
        self._write(self._collect(self.network_key), self.best_path)
        if self._client_weights is not None:
            self._client_weights.publish()

    def _write(self, state: Mapping[str, Any], path: Path) -> None:
        newest = find_last(self.folder)
        save_state(state, path, last_good=str(newest[0]) if newest else None)

    def _tell_evaluator(self) -> None:
        # MONAI's own values would keep a first NaN for ever and start again after a resume.
        state: Any = self.evaluator.state
        known = self.best_metric is not None
        state.best_metric, state.best_metric_epoch = (self.best_metric, self.best_epoch) if known else (-1, -1)

    def _restore(self, trainer: Engine) -> None:
        found = read_newest(self.folder)
        if found is None:
            advice = "in another --output_dir" if find_last(self.folder) else "with --resume false"
            raise InputError(f"resume: no loadable checkpoint in {self.folder}; start a new run {advice}")
        path, content = found
        missing = sorted(set(self.to_save) - set(content))
        if missing:
            raise InputError(f"resume: {path} has no {', '.join(missing)}; it belongs to another experiment")
        # Older checkpoints have no settings.
        settings = {"epoch_length": content["trainer"]["epoch_length"], **content.get("settings", {})}
        restore_objects(self.to_save, content, settings.get("first_rates"), path)
        check_settings(settings, self._settings, path)
        if getattr(trainer, "scaler", None) is not None and "scaler" in content:
            trainer.scaler.load_state_dict(content["scaler"])  # type: ignore[attr-defined]
        self._restore_best(content["best"])
        _restore_counters(trainer, content["trainer"], path)

    def _restore_best(self, best: Mapping[str, Any]) -> None:
        if best["metric"] is not None and not self.best_path.exists():
            _LOGGER.warning("%s is missing; the next validation writes it again", self.best_path)
        elif best["key_metric"] == self.key_metric:
            self.best_metric, self.best_epoch = best["metric"], best["epoch"]
        self._tell_evaluator()

    def _check_space(self) -> None:
        if not _is_main():
            return
        weights = count_bytes(self._collect(self.network_key)) + OVERHEAD
        adaptive = any(isinstance(item, torch.optim.Optimizer) for item in self.to_save.values())
        full = 3 * weights if adaptive else weights  # Adam keeps two moments for each weight
        ours = [*find_last(self.folder)[: self.n_saved], self.best_path]
        held = sum(path.stat().st_size for path in ours if path.exists())
        needed = (self.n_saved + 1) * full + weights + _LOGS - held
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise InputError(
                f"too little disk space in {self.folder}: the run needs {format_bytes(needed)} "
                f"for its checkpoints and logs, free {format_bytes(free)}"
            )


def _restore_counters(trainer: Engine, saved: Mapping[str, Any], path: Path) -> None:
    epoch, length, wanted = saved["epoch"], trainer.state.epoch_length, trainer.state.max_epochs
    counters = {**trainer.state_dict(), **saved, "epoch_length": length or saved["epoch_length"]}
    del counters["iteration"]  # ignite accepts one of the two, and a resumed run starts with a complete epoch
    trainer.load_state_dict({**counters, "max_epochs": max(epoch, wanted)})
    trainer.state.max_epochs = wanted
    if epoch >= wanted:
        text = "%s: this run is finished, %d of %d epochs are done; raise --max_epochs to continue"
        _LOGGER.warning(text, path, epoch, wanted)
    else:
        _LOGGER.info("resumed after epoch %d of %d from %s", epoch, wanted, path)


def _verify(path: Path) -> None:
    try:
        read_plain(path)
    except ValueError as error:
        path.unlink()
        raise InputError(
            f"a checkpoint must hold plain tensors and numbers, to_save contains something else: the file {error}"
        ) from None


def _is_main() -> bool:
    return idist.get_rank() == 0
