"""The options of a tuning, and how the words of the command line become them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.config_files import suggest_name
from pipeline.bundle.configs import make_inert
from pipeline.handlers.training.threshold_search import is_sealed
from pipeline.issues import InputError
from pipeline.tuning.settings import STEPS, TEMPERATURE

_ALL = "all"  # every case of a manifest, test cases included


@dataclass(frozen=True)
class Options:
    """What is tuned, on which cases, and how thoroughly.

    Raises:
        InputError: the split must not be tuned on, a number is too small, or the cache is a file.
    """

    bundle: Path  #: its folder
    values: Mapping[str, Any]  #: value by id of the config: dataset_dir, split, checkpoint,
    configs: Sequence[str] = ()  #: more configs, as paths or as names in the bundle's ``configs``
    steps: Sequence[str] = tuple(STEPS)  #: groups of `pipeline.tuning.settings.STEPS`, and `TEMPERATURE`
    candidates: int = 32  #: number of CRFs to try
    resamples: int = 10_000  #: number of bootstrap resamples
    seed: int = 0  #: of candidates, folds and resamples
    output: Path | None = None  #: the override file; None for ``configs/postprocessing.json``
    cache: Path | None = None  #: folder of predictions and scores; None for ``tune`` in the trainings' folder
    device: str | None = None  #: such as ``"cuda:1"``; None for the bundle's choice
    allow_any_split: bool = False  #: tune even on a test or training split

    def __post_init__(self) -> None:
        split = self.values.get("split", "val")
        if not self.allow_any_split and (is_sealed(split) or split == _ALL):
            raise InputError(
                f"post-processing is tuned on validation cases only, not on split {split!r}; tune with --split val, "
                "then score the test cases once with the file that it writes (to tune on them anyway: --i-know)"
            )
        if self.candidates < 1 or self.resamples < 1:
            raise InputError("--candidates and --resamples expect a number from 1")
        if self.seed < 0:
            raise InputError(f"--seed expects a number from 0, got {self.seed}")
        if self.cache is not None and self.cache.exists() and not self.cache.is_dir():
            raise InputError(f"--cache {self.cache}: expected a folder, but it is a file; choose another name")


def read_steps(text: str) -> list[str]:
    """Return the names of steps in a text, separated by commas.

    Raises:
        InputError: a name is unknown, or there is none.

    Example:
        >>> read_steps("crf, threshold")
        ['crf', 'threshold']
    """
    known = (*STEPS, TEMPERATURE)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise InputError(f"--steps: unknown step {name!r}; {suggest_name(name, known)}")
    if not names:
        raise InputError(f"--steps names no step; known: {', '.join(known)}")
    return names


def read_plain(name: str, text: str) -> str:
    """Return the value of an option so that MONAI does not run it: names of folders and splits may begin with ``$``.

    Raises:
        InputError: it is not a path, and begins with ``$``, ``@`` or ``%``.

    Example:
        >>> read_plain("dataset_dir", "$data"), read_plain("split", "val")
        ('./$data', 'val')
    """
    plain = str(make_inert(text, "./"))
    if plain != text and name in ("split", "fold"):
        raise InputError(f"--{name}: {text!r} begins with {text[0]}, which MONAI would run; expected a plain name")
    return plain
