"""MONAI / ignite handlers that make a training survive kills, full disks and bad numbers: each has ``attach(engine)``."""

from pipeline.handlers.epoch_seed import EpochSeed
from pipeline.handlers.non_finite_guard import NonFiniteGuard
from pipeline.handlers.run_record import RunRecord
from pipeline.handlers.training_checkpoint import TrainingCheckpoint

__all__ = ["EpochSeed", "NonFiniteGuard", "RunRecord", "TrainingCheckpoint"]
