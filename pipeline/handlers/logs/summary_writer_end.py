"""Close TensorBoard's writer at the end of a run."""

import logging
from dataclasses import dataclass
from typing import Any

from ignite.engine import Engine, Events

from pipeline.handlers.run.exits import on_exception

_LOGGER = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class SummaryWriterEnd:
    """Close TensorBoard's writer when a run ends in any way, because its thread would last as long as the process.

    The writer opens a new file if it is used again, as in a second run of the same trainer.
    """

    summary_writer: Any  #: TensorBoard's writer

    def attach(self, engine: Engine) -> None:
        """Close at the end of ``engine``, the trainer."""
        engine.add_event_handler(Events.COMPLETED, self.close)
        on_exception(engine, self.close)

    def close(self, engine: Engine, error: BaseException | None = None) -> None:
        """Write what is left and end the thread."""
        try:
            self.summary_writer.close()
        except Exception as problem:  # of its thread, which keeps any error for the next call
            _LOGGER.warning("the TensorBoard events of this run are incomplete: %s", problem)
