"""Allow one run at a time in an output folder."""

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from pipeline.handlers.run.exits import on_exception
from pipeline.issues import InputError
from pipeline.parallel.agreement import exit_together

_LOGGER = logging.getLogger(__name__)
LOCK_NAME = ".run.lock"


class RunLock:
    """Lock an output folder for one run; a second run is refused with a line that names the first one's process.

    The lock of a dead process on this host is taken over with a warning, so nothing must be cleaned up after a kill.
    Whether a process on another host is still running is unknown; that lock must be removed by hand.

    Args:
        output_dir: folder of the run.

    Raises:
        InputError: when the run starts, if another run holds the lock.

    Note:
        Put it before every handler that writes to ``output_dir``.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> first, second = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
        >>> RunLock(folder.name).attach(first)
        >>> RunLock(folder.name).attach(second)
        >>> _ = first.add_event_handler(Events.ITERATION_STARTED, lambda: second.run([1]))
        >>> first.run([1])
        Traceback (most recent call last):
        pipeline.issues.InputError: ... is in use by process ...
    """

    def __init__(self, output_dir: str | Path) -> None:
        self.path = Path(output_dir) / LOCK_NAME
        self._held = False

    def attach(self, engine: Engine) -> None:
        """Hold the lock while ``engine`` runs."""
        engine.add_event_handler(Events.STARTED, self.acquire)
        engine.add_event_handler(Events.COMPLETED, self.release)
        on_exception(engine, self.release)

    def acquire(self, engine: Engine) -> None:
        """Take the lock in the first process; if it is taken, end all processes."""
        with exit_together():
            if idist.get_rank() != 0:
                return
            take_lock(self.path)
            self._held = True

    def release(self, engine: Engine, error: BaseException | None = None) -> None:
        """Release the lock if it is held."""
        if self._held:
            self._held = False
            with contextlib.suppress(
                OSError
            ):  # the folder is gone: an error here would hide the one that ended the run
                self.path.unlink()


@contextlib.contextmanager
def lock_folder(output_dir: str | Path) -> Iterator[None]:
    """Hold the lock of a folder, for what is no engine's run.

    Raises:
        InputError: somebody else holds it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, lock_folder(folder), lock_folder(folder):
        ...     pass
        Traceback (most recent call last):
        pipeline.issues.InputError: ... is in use by process ...
    """
    path = Path(output_dir) / LOCK_NAME
    take_lock(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def take_lock(path: Path) -> None:
    """Write the name of this process into a lock file; that of a dead process on this host is taken over.

    Raises:
        InputError: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open_alone(path) as file:
        holder = _parse(file.read())
        if holder is not None and _may_live(holder):
            raise InputError(_refuse(path, holder))
        if holder is not None:
            text = "took over %s from process %s, which is dead (started %s)"
            _LOGGER.warning(text, path, holder["pid"], holder["started"])
        file.seek(0)
        file.truncate()
        json.dump(_describe_self(), file)


def read_holder(path: Path) -> dict[str, Any] | None:
    """Return who holds a lock file: ``pid``, ``host`` and ``started``; None if nobody does."""
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except OSError:
        return None


def _refuse(path: Path, holder: dict[str, Any]) -> str:
    where = "" if holder["host"] == socket.gethostname() else f" on {holder['host']}"
    line = f"{path.parent} is in use by process {holder['pid']}{where}, started {holder['started']}: "
    if where:
        return f"{line}wait for it, choose another --output_dir, or remove {path} if that run is dead"
    return f"{line}wait for it, or choose another --output_dir"


@contextlib.contextmanager
def _open_alone(path: Path) -> Iterator[IO[str]]:
    """Open a file exclusively, so that reading the holder and taking the lock are one step."""
    while True:
        with path.open("a+", encoding="utf-8") as file:
            with contextlib.suppress(ImportError, OSError):  # no flock on Windows and some network file systems
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                continue  # the holder removed the file between opening and locking
            file.seek(0)
            yield file
            return


def _parse(text: str) -> dict[str, Any] | None:
    try:
        holder = json.loads(text)
        return holder if {"pid", "host", "started"} <= set(holder) else None
    except (ValueError, TypeError):  # empty: a process died before it wrote its name
        return None


def _describe_self() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "ticks": _read_start_ticks(os.getpid()),
    }


def _may_live(holder: dict[str, Any]) -> bool:
    if holder["host"] != socket.gethostname():
        return True
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process
        pass
    # Another process may have the same number by now.
    ticks = holder.get("ticks")
    return ticks is None or ticks == _read_start_ticks(holder["pid"])


def _read_start_ticks(pid: int) -> int | None:
    """Read a process's start time in clock ticks since boot; None without /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])
