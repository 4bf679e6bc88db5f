"""Losses that MONAI lacks."""

from pipeline.losses.global_batch import GlobalBatchLoss
from pipeline.losses.weighted_bce import WeightMapBCELoss

__all__ = ["GlobalBatchLoss", "WeightMapBCELoss"]
