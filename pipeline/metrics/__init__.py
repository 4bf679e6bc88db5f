"""Metrics that MONAI lacks."""

from pipeline.metrics.slice_dice import NonEmptySliceDice

__all__ = ["NonEmptySliceDice"]
