"""What ``pipeline crossval`` was asked to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class CrossvalOptions:
    """What is trained, on which folds, with what, and where."""

    bundle: Path  #: its folder
    output_dir: Path | None = None  #: folder of the results; None for ``crossval`` in that of the bundle's trainings
    folds: int | None = None  #: number of folds, from the first one on; None for all of the manifest
    hours: float | None = None  #: for all trainings together; None for no limit
    configs: Sequence[str] = ()  #: more configs, as paths or as names in the bundle's ``configs``
    words: Mapping[str, str] = field(default_factory=dict)  #: overrides as they were typed, by id of the config
    sweeps: Sequence[str] = ()  #: ``KEY=V1,V2`` each; a setting is one value of each key
    cluster: str | None = None  #: ``local``, ``auto`` or the address of a Ray cluster; None for no Ray
    gpus_per_fold: float | None = None  #: on a cluster; None for 1 where it has GPUs
    cpus_per_fold: float | None = None  #: on a cluster; None for an equal share
