"""What ``pipeline predict`` was asked to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class PredictionOptions:
    """What is predicted, how, and what is written."""

    bundle: Path  #: its folder
    inputs: Sequence[str]  #: files and folders
    output_dir: Path  #: folder of the results
    configs: Sequence[str] = ()  #: more configs, as paths or as names in the bundle's ``configs``
    values: Mapping[str, Any] = field(default_factory=dict)  #: overrides by id of the config
    checkpoint: str | None = None  #: file of the weights; None takes the bundle's
    device: str | None = None  #: such as ``cpu``; None leaves the choice to the bundle
    format: str | None = None  #: of the masks; None takes the one that fits each image
    overlay: bool = False  #: write the image with outlines
    figure: bool = False  #: write image, prediction and overlay side by side
    probabilities: bool = False  #: write the probability of each label
    doubt: bool = False  #: write how unsure the network is of each voxel
    keep_going: bool = False  #: leave out what cannot be predicted, instead of ending
