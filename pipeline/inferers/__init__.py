"""Inferers that MONAI lacks."""

from pipeline.inferers.autocast import AutocastInferer, supports_bfloat16
from pipeline.inferers.flips import FlipAverageInferer

__all__ = ["AutocastInferer", "FlipAverageInferer", "supports_bfloat16"]
