"""What ended a run, in one line: no memory, a lost worker, a file that vanished, a full disk, sizes that do not fit."""

from pipeline.faults.causes import Cause, describe_first, list_causes
from pipeline.faults.fault import SAVING, Fault, advise
from pipeline.faults.recognition import explain, find_fault

__all__ = ["SAVING", "Cause", "Fault", "advise", "describe_first", "explain", "find_fault", "list_causes"]
