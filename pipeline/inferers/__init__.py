"""Inferers that MONAI lacks."""

from pipeline.inferers.autocast import AutocastInferer, supports_bfloat16
from pipeline.inferers.ensemble import EnsembleInferer
from pipeline.inferers.flips import FlipAverageInferer
from pipeline.inferers.overlap_tile import OverlapTileInferer

__all__ = ["AutocastInferer", "EnsembleInferer", "FlipAverageInferer", "OverlapTileInferer", "supports_bfloat16"]
