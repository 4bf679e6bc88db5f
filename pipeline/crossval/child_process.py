"""Run a command in a process that ends with this one, and keep all that it says."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pipeline

_SIGNAL_FOR_PARENT = 1  # PR_SET_PDEATHSIG of Linux
_TRACE = "Traceback (most recent call last)"


def run_child(command: Sequence[str], log: Path, cwd: str, tell: Callable[[str], None]) -> int:
    """Run a command and return its exit code, negative for a signal.

    Ctrl-C and SIGTERM are handed on, and the child's orderly end is awaited; a second one kills it. On Linux the child
    is killed when this process is, so that nobody trains unseen.

    Args:
        command: the words.
        log: file to which its output is added.
        cwd: folder to run in.
        tell: gets each line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=_make_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=_make_tie(os.getpid()),
        )

        def listen(told: Callable[[str], None]) -> None:
            for line in process.stdout or ():
                file.write(line)
                file.flush()
                told(line.rstrip("\n"))

        try:
            listen(tell)
            return process.wait()
        except BaseException as error:
            try:
                _hand_on(process, error)
                listen(_until_trace(tell))
                process.wait()
            except BaseException:
                process.kill()
                process.wait()
                raise
            raise


def _make_environment() -> dict[str, str]:
    # The folder of this package, which need not be installed, and may not be the current one.
    paths = (str(Path(pipeline.__file__).parents[1]), os.environ.get("PYTHONPATH"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}


def _make_tie(parent: int) -> Callable[[], None] | None:
    """Return what a new process calls to die with its parent; None where the system cannot do that."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)  # before the fork, where nothing should be loaded

    def tie() -> None:
        library.prctl(_SIGNAL_FOR_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def _hand_on(process: subprocess.Popen[str], error: BaseException) -> None:
    """Send the signal that ended this process to the child, unless the terminal has done so."""
    if not isinstance(error, KeyboardInterrupt | SystemExit):
        process.kill()
    elif isinstance(error, SystemExit) or not _is_in_foreground():
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM if isinstance(error, SystemExit) else signal.SIGINT)


def _is_in_foreground() -> bool:
    """Return whether Ctrl-C reaches the child as well: a terminal sends it to all processes in the foreground."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _until_trace(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Return a listener that does not repeat the trace of a child that was stopped while it was starting."""
    ended = False

    def listen(line: str) -> None:
        nonlocal ended
        ended = ended or line.startswith(_TRACE)
        if not ended:
            tell(line)

    return listen
