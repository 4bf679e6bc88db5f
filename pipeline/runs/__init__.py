"""The output folder of a run: its tables, their statistics, and `read_run`, which reads all of it."""

from pipeline.runs.description import Summary, summarize
from pipeline.runs.run_folder import Run, read_run

__all__ = ["Run", "Summary", "read_run", "summarize"]
