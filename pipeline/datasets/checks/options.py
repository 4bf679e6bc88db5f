"""Limits and thresholds of a check."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.datasets.probes import MAX_PIXELS


@dataclass(frozen=True)
class CheckOptions:
    """Limits and thresholds of a check.

    Args:
        max_pixels: pictures and volumes with more pixels are refused after reading their header.
        roi_size: size of the training patch in voxels; () for no check.
        divisible_by: product of the network's strides; sizes that it does not divide are reported; 1 for no check.
        require_patient: a case without subject is an error, not a warning.
        near_distance: greatest Hamming distance of perceptual hashes at which two images count as near duplicates.
        search_near: search for near duplicates at the level ``deep``.
    """

    max_pixels: int = MAX_PIXELS
    roi_size: tuple[int, ...] = ()
    divisible_by: int = 1
    require_patient: bool = False
    near_distance: int = 8
    search_near: bool = True
