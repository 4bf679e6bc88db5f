"""The table of scores by setting and case: missing scores are computed and stored at once."""

import contextlib
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.tuning.settings import Setting, name_setting

#: Starts a case, and returns a function that scores it with a setting: the score and the seconds that it took
OpenCase = Callable[[str], Callable[[Setting], tuple[float, float]]]


class ScoreTable:
    """Scores by setting and case, kept in a file of JSON lines that only grows.

    A killed run leaves at most half a line, which is ignored.

    Args:
        path: the file.
        keys: by case, the key of its files and their content.
        open_case: starts a case.
    """

    def __init__(self, path: Path, keys: Mapping[str, str], open_case: OpenCase) -> None:
        self._path = path
        self._keys = dict(keys)
        self._open = open_case
        self._known = dict(_read_lines(path))
        self._bar: Any = None

    @contextlib.contextmanager
    def show_progress(self) -> Iterator[Callable[[str], None]]:
        """Show a bar on stderr if that is a terminal; yields a function that starts the bar of the next part."""
        with contextlib.ExitStack() as stack:

            def announce(name: str) -> None:
                if self._bar is not None:
                    self._bar.close()
                self._bar = stack.enter_context(tqdm(total=0, desc=name, unit="score", leave=False, disable=None))

            yield announce
            self._bar = None

    def score(self, settings: Sequence[Setting], cases: Sequence[str]) -> list[dict[str, float]]:
        """Return the scores of each setting by case, NaN where a case has none; missing ones are computed by case."""
        names = [name_setting(setting) for setting in settings]
        named = dict(zip(names, settings, strict=True))
        missing = {
            case: {name: named[name] for name in named if (self._keys[case], name) not in self._known} for case in cases
        }
        if self._bar is not None:
            self._bar.total += sum(map(len, missing.values()))
            self._bar.refresh()
        for case, wanted in missing.items():
            if wanted:
                self._fill(case, wanted)
        return [{case: self._known[self._keys[case], name][0] for case in cases} for name in names]

    def seconds(self, setting: Setting, cases: Sequence[str]) -> float:
        """Return the median of the seconds per case; the median, because compiling slows the first case."""
        name = name_setting(setting)
        return statistics.median(self._known[self._keys[case], name][1] for case in cases)

    def _fill(self, case: str, settings: Mapping[str, Setting]) -> None:
        score_case = self._open(case)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as stream:
            _end_line(stream)
            for name, setting in settings.items():
                score, seconds = score_case(setting)
                seconds = round(seconds, 4)
                self._known[self._keys[case], name] = (score, seconds)
                line = [self._keys[case], name, score if math.isfinite(score) else None, seconds]
                stream.write(json.dumps(line).encode() + b"\n")
                stream.flush()
                if self._bar is not None:
                    self._bar.update()


def _end_line(stream: Any) -> None:
    """End the half line that a killed run may have left."""
    if stream.seek(0, 2):
        stream.seek(-1, 2)
        if stream.read(1) != b"\n":
            stream.write(b"\n")


def _read_lines(path: Path) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    """Yield the stored scores; lines that are not valid records are left out."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            case, name, score, seconds = json.loads(line)
            if isinstance(case, str) and isinstance(name, str):
                yield (case, name), (math.nan if score is None else float(score), float(seconds))
