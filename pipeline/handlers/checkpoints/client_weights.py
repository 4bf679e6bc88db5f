"""Bring the best weights of a client's training to where clients of the bundle read them."""

import filecmp
import logging
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.atomic import write_atomically
from pipeline.handlers.checkpoints.atomic_save import remove_stale

_LOGGER = logging.getLogger(__name__)


@dataclass
class ClientWeights:
    """A copy of the best weights in the folder where clients of the bundle read them, such as ``models``.

    The weights that the bundle was shipped with are kept once under another name. If the folder cannot be written to,
    the log says so, and the training goes on.

    Example:
        >>> import tempfile
        >>> best, models = Path(tempfile.mkdtemp()) / "model.pt", Path(tempfile.mkdtemp())
        >>> for path, text in ((best, "trained"), (models / "model.pt", "shipped")):
        ...     _ = path.write_text(text)
        >>> weights = ClientWeights(best, models)
        >>> weights.begin()
        >>> weights.publish()
        >>> (models / "model.pt").read_text(), (models / "model_shipped.pt").read_text()
        ('trained', 'shipped')
    """

    best: Path  #: the best weights, in the output folder
    folder: Path  #: where clients look for a file of that name
    _trained: bool = field(default=False, init=False)
    _told: bool = field(default=False, init=False)

    @property
    def target(self) -> Path:
        """The file that clients read."""
        return self.folder / self.best.name

    @property
    def shipped(self) -> Path:
        """The file that was there before the first training."""
        return self.folder / f"{self.best.stem}_shipped{self.best.suffix}"

    def begin(self) -> None:
        """Find out, before the best weights are replaced, whether the clients' file is of an earlier training."""
        both = self.target.is_file() and self.best.is_file()
        self._trained = both and filecmp.cmp(self.target, self.best, shallow=False)
        remove_stale(self.folder, (re.escape(self.target.name), re.escape(self.shipped.name)))

    def publish(self) -> None:
        """Copy the best weights, and keep what was shipped."""
        try:
            if self.target.is_file() and not self.shipped.exists() and not self._trained:
                _copy(self.target, self.shipped)
            _copy(self.best, self.target)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            _LOGGER.warning("cannot write %s: %s; the best weights are in %s", self.target, reason, self.best)
            return
        if not self._told:
            kept = f"; those of before are in {self.shipped}" if self.shipped.exists() else ""
            _LOGGER.info("the best weights are also in %s, where clients read them%s", self.target, kept)
        self._trained = self._told = True


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, write_atomically(target, "wb") as written:
        shutil.copyfileobj(read, written)
