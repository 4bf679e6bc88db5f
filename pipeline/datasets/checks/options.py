"""Limits and thresholds of a check."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckOptions:
    """Limits and thresholds of a check."""

    #: pictures and volumes with more pixels are refused after reading their header; None: the limit of their format
    max_pixels: int | None = None
    roi_size: tuple[int, ...] = ()  #: size of the training patch in voxels; () for no check
    #: product of the network's strides; sizes that it does not divide are reported; 1 for no check
    divisible_by: int = 1
    require_patient: bool = False  #: a case without subject is an error, not a warning
    #: greatest Hamming distance of perceptual hashes at which two images count as near duplicates
    near_distance: int = 8
    search_near: bool = True  #: search for near duplicates at the level ``deep``
