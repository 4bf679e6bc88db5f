"""Metrics that MONAI lacks."""

from pipeline.metrics.case_count import CaseCount
from pipeline.metrics.label_metric import LabelMetric
from pipeline.metrics.overlap import LabelDice, LabelIoU, ThresholdedJaccard
from pipeline.metrics.pooled import BackgroundAccuracy, PixelAccuracy, PooledDice, PooledIoU
from pipeline.metrics.seg import ObjectCount, SegMeasure
from pipeline.metrics.slice_dice import NonEmptySliceDice
from pipeline.metrics.surface import HausdorffDistance95, SurfaceDice

__all__ = [
    "BackgroundAccuracy",
    "CaseCount",
    "HausdorffDistance95",
    "LabelDice",
    "LabelIoU",
    "LabelMetric",
    "NonEmptySliceDice",
    "ObjectCount",
    "PixelAccuracy",
    "PooledDice",
    "PooledIoU",
    "SegMeasure",
    "SurfaceDice",
    "ThresholdedJaccard",
]
