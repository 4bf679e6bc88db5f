"""The handlers that every training has, under one name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.engines import Evaluator
from torch.optim.lr_scheduler import LRScheduler

from pipeline.flags import read_flag
from pipeline.handlers.checkpoints.initial_weights import InitialWeights
from pipeline.handlers.checkpoints.training_checkpoint import TrainingCheckpoint
from pipeline.handlers.logs.empty_predictions import EmptyPredictions
from pipeline.handlers.logs.learning_rate_log import LearningRateLog
from pipeline.handlers.logs.loader_times import LoaderTimes
from pipeline.handlers.logs.summary_writer_end import SummaryWriterEnd
from pipeline.handlers.logs.training_progress import TrainingProgress
from pipeline.handlers.run.graceful_stop import GracefulStop
from pipeline.handlers.run.run_lock import RunLock
from pipeline.handlers.run.run_record import RunRecord
from pipeline.handlers.training.compiled_network import CompiledNetwork
from pipeline.handlers.training.early_stop import EarlyStop
from pipeline.handlers.training.epoch_seed import EpochSeed
from pipeline.handlers.training.final_validation import FinalValidation
from pipeline.handlers.training.non_finite_guard import NonFiniteGuard
from pipeline.handlers.training.resumed_validation import ResumedValidation
from pipeline.handlers.training.schedule_restart import ScheduleRestart
from pipeline.handlers.training.time_budget import TimeBudget

_ADVICE = (
    "usual in the first epochs; if it lasts, give it more steps (--{more}, a smaller --batch_size), try another "
    "--learning_rate, or check the labels with `python -m pipeline dataset check --deep`"
)


class TrainingRun:
    """Attach the handlers that make a training safe to stop, exact to resume and easy to trace.

    In this order: `InitialWeights`, `RunLock`, `GracefulStop`, `EpochSeed`, `NonFiniteGuard`, `FinalValidation`,
    `TrainingCheckpoint`, `EarlyStop`, `RunRecord`, `TimeBudget`, `ResumedValidation`, `ScheduleRestart`,
    `TrainingProgress`, `LoaderTimes`, `LearningRateLog`, `SummaryWriterEnd`, `EmptyPredictions`. Each of them can be
    used on its own instead, for example to leave one out.

    Args:
        output_dir, to_save, evaluator, key_metric, resume: see `TrainingCheckpoint`.
        loader, seed: see `EpochSeed`.
        patience: see `EarlyStop`.
        ckpt_dir: where clients of the bundle look for trained weights, see `TrainingCheckpoint`.
        manifest, dataset_dir: see `RunRecord`.
        budget_minutes, val_interval: time of the training and interval of the validations in epochs, see `TimeBudget`;
            without a time there is none.
        summary_writer: TensorBoard's writer, for the learning rate; closed at the end. None writes no curve.
        initial_weights: see `InitialWeights`; the network is that of ``to_save``.
        compile_network: compile it, see `CompiledNetwork`, which then comes first.

    Raises:
        InputError, ValueError: as these handlers.

    Note:
        In ``train#handlers`` it comes after ``LrScheduleHandler`` and ``ValidationHandler``, so that an epoch's
        checkpoint knows the next learning rate and the validation; and before everything that writes to ``output_dir``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        loader: Any,
        evaluator: Evaluator,
        to_save: Mapping[str, Any],
        key_metric: str = "val_mean_dice",
        seed: int = 0,
        resume: bool | str = False,
        patience: int = 20,
        manifest: str | Path | None = None,
        dataset_dir: str | Path | None = None,
        summary_writer: Any = None,
        ckpt_dir: str | Path | None = None,
        budget_minutes: float | None = None,
        val_interval: int = 1,
        initial_weights: str | Path | None = None,
        compile_network: bool | str = False,
    ) -> None:
        schedulers = [item for item in to_save.values() if isinstance(item, LRScheduler)]
        network = to_save["network"]
        times, first = LoaderTimes(), InitialWeights(network, initial_weights, resume, evaluator)
        seconds = None if budget_minutes is None else 60 * budget_minutes
        budget = [] if seconds is None else [TimeBudget(output_dir, seconds, schedulers, evaluator, val_interval)]
        compiled = [CompiledNetwork(network)] if read_flag(compile_network, "compile") else []
        self.handlers: list[Any] = [
            *compiled,
            first,
            RunLock(output_dir),
            GracefulStop(),
            EpochSeed(seed, loader),
            NonFiniteGuard(output_dir),
            FinalValidation(evaluator),
            TrainingCheckpoint(
                output_dir,
                to_save,
                evaluator,
                key_metric,
                resume=resume,
                loader=loader,
                seed=seed,
                manifest=manifest,
                ckpt_dir=ckpt_dir,
            ),
            EarlyStop(evaluator, key_metric, patience),
            RunRecord(output_dir, seed, manifest, dataset_dir, evaluator, parts=[first, times, *budget]),
            *budget,
            ResumedValidation(evaluator),
            *(ScheduleRestart(item) for item in schedulers),
            TrainingProgress(evaluator, key_metric),
            times,
        ]
        self.evaluator = evaluator
        self.advice = _ADVICE.format(more="max_epochs" if seconds is None else "budget_minutes")
        if summary_writer is not None:
            self.handlers += [LearningRateLog(summary_writer, to_save["optimizer"]), SummaryWriterEnd(summary_writer)]

    def attach(self, engine: Engine) -> None:
        """Attach all of them to ``engine``, the trainer."""
        for handler in self.handlers:
            handler.attach(engine)
        EmptyPredictions(self.advice, engine).attach(self.evaluator)
