"""Handlers for trainings that survive kills, full disks and bad numbers; each has ``attach(engine)``."""

from pipeline.handlers.case_metrics_saver import CaseMetricsSaver
from pipeline.handlers.early_stop import EarlyStop
from pipeline.handlers.encoder_weights_loader import EncoderWeightsLoader
from pipeline.handlers.epoch_seed import EpochSeed
from pipeline.handlers.graceful_stop import GracefulStop
from pipeline.handlers.gradient_clip import GradientClip
from pipeline.handlers.learning_rate_log import LearningRateLog
from pipeline.handlers.network_checkpoint_loader import NetworkCheckpointLoader
from pipeline.handlers.non_finite_guard import NonFiniteGuard
from pipeline.handlers.output_folder_guard import OutputFolderGuard
from pipeline.handlers.prediction_gallery import PredictionGallery
from pipeline.handlers.run_lock import RunLock
from pipeline.handlers.run_record import RunRecord
from pipeline.handlers.segmentation_figures import SegmentationFigures
from pipeline.handlers.threshold_search import ThresholdSearch
from pipeline.handlers.training_checkpoint import TrainingCheckpoint

__all__ = [
    "CaseMetricsSaver",
    "EarlyStop",
    "EncoderWeightsLoader",
    "EpochSeed",
    "GracefulStop",
    "GradientClip",
    "LearningRateLog",
    "NetworkCheckpointLoader",
    "NonFiniteGuard",
    "OutputFolderGuard",
    "PredictionGallery",
    "RunLock",
    "RunRecord",
    "SegmentationFigures",
    "ThresholdSearch",
    "TrainingCheckpoint",
]
