"""Check that results can be written before the network starts its work."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine

from pipeline.handlers.run.exits import OneLineHandler
from pipeline.issues import InputError
from pipeline.parallel.agreement import exit_together


@dataclass(eq=False, repr=False)
class OutputFolderGuard(OneLineHandler):
    """Refuse to start if the output folder cannot be written to; a missing folder is created.

    The check writes and removes a file, because permissions reveal neither a full nor a read-only disk.

    Raises:
        InputError: when the run starts: the folder cannot be created or written to, or is a file.
    """

    output_dir: str | Path  #: folder of the results
    knob: str = "output_dir"  #: the option that sets the folder, for the message

    def __post_init__(self) -> None:
        self.output_dir = Path(self.output_dir)

    def __call__(self, engine: Engine) -> None:
        """Write and remove a file in the first process; if it fails, all processes end."""
        with exit_together():
            if idist.get_rank() == 0:
                self._probe()

    def _probe(self) -> None:
        try:
            Path(self.output_dir).mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.output_dir, prefix=".probe.", suffix=".tmp") as stream:
                stream.write(bytes(1))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(
                f"output-space: cannot write to {self.output_dir}: {reason}; choose another folder with --{self.knob}"
            ) from None
