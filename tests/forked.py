"""``python -m MODULE WORDS`` in a process that is forked from this one, and need not import torch and MONAI again.

For tests of what is typed and answered: words, folder, exit code and output. What only a new interpreter
shows, such as what it imports, is tested with `subprocess`.
"""

import contextlib
import importlib
import io
import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO

SECONDS = 300
QUIET = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


def run_module(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a module with words in a folder; returns what `subprocess.run` would with the output captured as text."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = multiprocessing.get_context("fork").Process(target=_run, args=(words, cwd, (out, err)))
        process.start()
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"still running after {SECONDS} s: {' '.join(words)}")
        return subprocess.CompletedProcess(["python", "-m", *words], process.exitcode or 0, _read(out), _read(err))


def _read(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()


def _run(words: Sequence[str], cwd: Path, streams: Sequence[IO[str]]) -> None:
    """Make of this fork of pytest what a new interpreter would be, and run the module in it."""
    for number, stream in enumerate(streams, start=1):
        os.dup2(stream.fileno(), number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    for name in [None, *logging.root.manager.loggerDict]:
        logging.getLogger(name).handlers.clear()
    importlib.reload(warnings)
    warnings.resetwarnings()
    for category in QUIET:
        warnings.simplefilter("ignore", category)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.excepthook = sys.__excepthook__
    os.chdir(cwd)
    sys.argv = list(words)
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except Exception:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]  # one that the run has set prints one line
        raise SystemExit(1) from None
    finally:
        _save_coverage()


def _save_coverage() -> None:
    """Save what a fork has covered, if that is measured; it ends without the handlers of an interpreter's end."""
    coverage = sys.modules.get("coverage")
    if coverage is not None and (measured := coverage.Coverage.current()) is not None:
        with contextlib.redirect_stderr(io.StringIO()):  # what it warns of is no answer to a command
            measured.stop()
            measured.save()
