"""Handlers for ignite engines: safe and exactly resumable trainings, logs, figures; each has ``attach(engine)``."""

from pipeline.handlers.checkpoints.encoder_weights_loader import EncoderWeightsLoader
from pipeline.handlers.checkpoints.initial_weights import InitialWeights
from pipeline.handlers.checkpoints.network_checkpoint_loader import NetworkCheckpointLoader
from pipeline.handlers.checkpoints.training_checkpoint import TrainingCheckpoint
from pipeline.handlers.logs.calibration_saver import CalibrationSaver
from pipeline.handlers.logs.case_metrics_saver import CaseMetricsSaver
from pipeline.handlers.logs.case_pictures_saver import CasePicturesSaver
from pipeline.handlers.logs.empty_predictions import EmptyPredictions
from pipeline.handlers.logs.learning_rate_log import LearningRateLog
from pipeline.handlers.logs.loader_times import LoaderTimes
from pipeline.handlers.logs.prediction_gallery import PredictionGallery
from pipeline.handlers.logs.progress_display import on_terminal
from pipeline.handlers.logs.run_progress import RunProgress
from pipeline.handlers.logs.segmentation_figures import SegmentationFigures
from pipeline.handlers.logs.summary_writer_end import SummaryWriterEnd
from pipeline.handlers.logs.swanlab_writer import open_swanlab_writer
from pipeline.handlers.logs.training_progress import TrainingProgress
from pipeline.handlers.run.graceful_stop import GracefulStop
from pipeline.handlers.run.one_line_errors import OneLineErrors
from pipeline.handlers.run.output_folder_guard import OutputFolderGuard
from pipeline.handlers.run.run_lock import RunLock
from pipeline.handlers.run.run_record import RunRecord
from pipeline.handlers.run.training_run import TrainingRun
from pipeline.handlers.training.compiled_network import CompiledNetwork
from pipeline.handlers.training.early_stop import EarlyStop
from pipeline.handlers.training.epoch_seed import EpochSeed
from pipeline.handlers.training.final_validation import FinalValidation
from pipeline.handlers.training.gradient_clip import GradientClip
from pipeline.handlers.training.non_finite_guard import NonFiniteGuard
from pipeline.handlers.training.resumed_validation import ResumedValidation
from pipeline.handlers.training.schedule_restart import ScheduleRestart
from pipeline.handlers.training.threshold_search import ThresholdSearch
from pipeline.handlers.training.time_budget import TimeBudget

__all__ = [
    "CalibrationSaver",
    "CaseMetricsSaver",
    "CasePicturesSaver",
    "CompiledNetwork",
    "EarlyStop",
    "EmptyPredictions",
    "EncoderWeightsLoader",
    "EpochSeed",
    "FinalValidation",
    "GracefulStop",
    "GradientClip",
    "InitialWeights",
    "LearningRateLog",
    "LoaderTimes",
    "NetworkCheckpointLoader",
    "NonFiniteGuard",
    "OneLineErrors",
    "OutputFolderGuard",
    "PredictionGallery",
    "ResumedValidation",
    "RunLock",
    "RunProgress",
    "RunRecord",
    "ScheduleRestart",
    "SegmentationFigures",
    "SummaryWriterEnd",
    "ThresholdSearch",
    "TimeBudget",
    "TrainingCheckpoint",
    "TrainingProgress",
    "TrainingRun",
    "on_terminal",
    "open_swanlab_writer",
]
