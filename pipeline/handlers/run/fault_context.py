"""Say what ended a run together with what the error itself does not know: case, epoch, settings in use, next command.

Everything is found in the frames that the error went through, so that no config has to pass it on: MONAI's workflow
holds the settings that were resolved so far, and a loader's frame the case that it was loading.
"""

import os
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine
from torch.utils.data import DataLoader

from pipeline.atomic import write_atomically
from pipeline.faults import SAVING, Fault, advise, find_fault
from pipeline.handlers.checkpoints.checkpoint_files import find_last
from pipeline.handlers.run.batch_cases import list_case_ids, list_items, name_item
from pipeline.handlers.run.loading_order import find_lost_cases
from pipeline.issues import InputError

_LOADER = "torch.utils.data.dataloader"
_MOST_CASES = 4
#: Pattern of the names under which traces are written
TRACE_FILES = "error_trace*.txt"


@dataclass(frozen=True)
class Settings:
    """The settings of the config that is running, as far as they were resolved when the error came."""

    values: Mapping[str, Any] | None = None  #: the knobs that save memory; None without a config
    output_dir: Path | None = None  #: folder of the results
    check: str = ""  #: the command that looks for damaged files; empty if there is no dataset

    def for_engine(self, engine: Engine | None) -> "Settings":
        """Return the settings that one engine uses: training does not read ``sw_batch_size``, validation only that."""
        if self.values is None or engine is None:
            return self
        other = "sw_batch_size" if hasattr(engine, "optimizer") else "batch_size"
        return replace(self, values={name: value for name, value in self.values.items() if name != other})

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints that the run can be resumed from."""
        try:
            return find_last(self.output_dir) if self.output_dir is not None else []
        except OSError:
            return []


@dataclass
class Place:
    """Where in the data an error came."""

    cases: list[str] = field(default_factory=list)  #: ids of the case, or of the cases of the batch
    engine: Engine | None = None  #: the engine that ran
    loading: bool = False  #: the batch of the next iteration was being loaded

    def describe(self) -> str:
        """Return it in brackets."""
        parts = []
        if self.cases:
            more = f" and {len(self.cases) - _MOST_CASES} more" if len(self.cases) > _MOST_CASES else ""
            parts.append(f"case{'s' * (len(self.cases) > 1)} {', '.join(self.cases[:_MOST_CASES])}{more}")
        if self.engine is not None and self.engine.state.epoch:
            iteration = self.engine.state.iteration + self.loading
            parts.append(f"epoch {self.engine.state.epoch}, iteration {iteration}")
        return f" ({'; '.join(parts)})" if parts else ""


def explain_fault(error: BaseException, engine: Engine | None = None) -> InputError | None:
    """Return the line to show instead of an error whose reason is the machine, a file or a setting.

    The trace goes to ``error_trace.txt`` in the output folder, if that can be written.

    Args:
        error: the exception.
        engine: the engine that it ended, if it had started.

    Returns:
        None if the error is not known. Otherwise an error whose cause is the given one.
    """
    fault = find_fault(error)
    if fault is None:
        return None
    frames = list(_walk_frames(error))
    settings = read_settings(frames)
    output = _is_output(fault, settings)
    place = find_place(fault, frames, engine)
    if output:
        place.cases.clear()
    what = f"cannot write to {fault.what}" if output else fault.what
    parts = [f"{what}{place.describe()}", *_advise(fault, settings.for_engine(engine))]
    trace = write_trace(error, settings.output_dir) if fault.traced else None
    line = InputError("; ".join([*parts, *([f"trace in {trace}"] if trace else [])]))
    line.__cause__ = error
    return line


def read_settings(frames: Sequence[FrameType]) -> Settings:
    """Read the settings of the config whose workflow runs in one of the frames."""
    for frame in frames:
        owner: Any = frame.f_locals.get("self")
        if type(owner).__name__ == "ConfigWorkflow":
            found = owner.parser.ref_resolver.resolved_content
            # A knob that nothing has asked for yet cannot be the reason.
            values = {name: found[name] for name in SAVING if name in found}
            if values.get("num_workers") == "auto":
                loaders = [item for item in found.values() if isinstance(item, DataLoader)]
                values["num_workers"] = max((loader.num_workers for loader in loaders), default=0)
            folder = found.get("output_dir")
            return Settings(values, Path(folder) if isinstance(folder, str) else None, _write_check(found))
    return Settings()


def find_place(fault: Fault, frames: Sequence[FrameType], engine: Engine | None) -> Place:
    """Find the case that was being loaded, or else the cases of the batch that was being computed."""
    loading = fault.loading or any(frame.f_globals.get("__name__") == _LOADER for frame in frames)
    if engine is not None and not loading:
        return Place(list_case_ids(engine.state.batch), engine)
    cases = _find_case(frames) or _find_owner(fault.what, engine)
    return Place(cases or ([] if engine is None else find_lost_cases(engine, fault.what)), engine, loading)


def _find_case(frames: Sequence[FrameType]) -> list[str]:
    """Find the case in the variables of a transform or a dataset."""
    for frame in frames:
        for value in list(frame.f_locals.values()):
            if isinstance(value, Mapping) and (isinstance(value.get("case_id"), str) or "label" in value):
                name = name_item(value)
                if name is not None:
                    return [name]
    return []


def _find_owner(text: str, engine: Engine | None) -> list[str]:
    """Find the case of the engine's dataset one of whose files a text names."""
    loader = getattr(getattr(engine, "state", None), "dataloader", None)
    for item in list_items(loader):
        if isinstance(item, Mapping) and (name := name_item(item)):
            files = [part for value in item.values() for part in (value if isinstance(value, list) else [value])]
            if any(
                isinstance(file, (str, os.PathLike)) and os.sep in str(file) and str(file) in text for file in files
            ):
                return [name]
    return []


def write_trace(error: BaseException, folder: Path | None) -> Path | None:
    """Write the trace of an error to ``error_trace.txt``; return None if there is no folder or it cannot be written."""
    if folder is None or not folder.is_dir():
        return None
    rank = idist.get_rank()
    path = folder / (f"error_trace_{rank}.txt" if rank else "error_trace.txt")
    text = "".join(traceback.format_exception(error))
    home = str(Path.home())
    try:
        with write_atomically(path) as file:
            file.write(text.replace(home, "~") if len(home) > 1 else text)
    except OSError:
        return None
    return path


def _write_check(found: Mapping[str, Any]) -> str:
    if not {"manifest", "dataset_dir"} <= set(found) or not os.path.isfile(str(found["manifest"])):
        return ""
    options = shlex.join([str(found["manifest"]), "--dataset_dir", str(found["dataset_dir"])])
    return f"check the files with `python -m pipeline dataset check {options} --deep`"


def _walk_frames(error: BaseException) -> Iterator[FrameType]:
    """Yield the frames of an error and its causes, the innermost first, and then those that are running."""
    causes = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__
    for cause in reversed(causes):
        yield from reversed([frame for frame, _ in traceback.walk_tb(cause.__traceback__)])
    for frame, _ in traceback.walk_stack(sys._getframe()):
        if frame.f_globals.get("__name__") != __name__:
            yield frame


def _is_output(fault: Fault, settings: Settings) -> bool:
    folder = settings.output_dir
    if folder is None or not fault.path or fault.reading:
        return False
    return Path(os.path.abspath(fault.path)).is_relative_to(os.path.abspath(folder))


def _advise(fault: Fault, settings: Settings) -> Iterator[str]:
    advice = advise(fault, settings.values)
    if advice:
        yield advice
    if _is_output(fault, settings):
        yield "mend that folder, or choose another one with --output_dir"
    elif fault.reading:
        yield settings.check or "mend that file, or leave it out"
    if settings.checkpoints:
        yield "then continue with --resume true"
