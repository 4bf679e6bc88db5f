"""Inferers that MONAI lacks."""

from pipeline.inferers.autocast import AutocastInferer, supports_bfloat16

__all__ = ["AutocastInferer", "supports_bfloat16"]
