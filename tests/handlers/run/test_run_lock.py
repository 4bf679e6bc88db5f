"""RunLock: one run at a time; a dead one's lock is taken over."""

import json
import os
import socket
import subprocess
import sys

import pytest
from ignite.engine import Engine, Events

from pipeline.handlers import RunLock
from pipeline.handlers.run import run_lock
from pipeline.issues import InputError


def build(folder, step=lambda engine, batch: None):
    engine = Engine(step)
    RunLock(folder).attach(engine)
    return engine


def write_lock(folder, **changes):
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "started": "2026-01-01T00:00:00+00:00", **changes}
    (folder / ".run.lock").write_text(json.dumps(holder))


def find_dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_held_while_running_and_given_back(tmp_path):
    engine = build(tmp_path)
    seen = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append((tmp_path / ".run.lock").read_text()))
    engine.run([0])
    assert json.loads(seen[0])["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_given_back_after_an_exception(tmp_path):
    def fail(engine, batch):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        build(tmp_path, fail).run([0])
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_keeps_it(tmp_path):
    write_lock(tmp_path)
    before = (tmp_path / ".run.lock").read_text()
    expected = rf"^{tmp_path} is in use by process {os.getpid()}, started 2026-01-01T00:00:00\+00:00: wait for it, or"
    with pytest.raises(InputError, match=expected):
        build(tmp_path).run([0])
    assert (tmp_path / ".run.lock").read_text() == before


def test_another_users_process_keeps_it(tmp_path, monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    write_lock(tmp_path)
    with pytest.raises(InputError, match="is in use by process"):
        build(tmp_path).run([0])


def test_another_host_keeps_it(tmp_path):
    write_lock(tmp_path, host="elsewhere", pid=1)
    with pytest.raises(InputError, match=r"process 1 on elsewhere, .* or remove .*/\.run\.lock if that run is dead"):
        build(tmp_path).run([0])


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc here")
def test_a_process_number_that_was_given_away_does_not(tmp_path, caplog):
    write_lock(tmp_path, ticks=1)
    build(tmp_path).run([0])
    assert "took over" in caplog.text


def test_a_dead_process_does_not(tmp_path, caplog):
    pid = find_dead_pid()
    write_lock(tmp_path, pid=pid)
    build(tmp_path).run([0])
    assert f"took over {tmp_path}/.run.lock from process {pid}, which is dead (started 2026-01-01" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", "7", '{"pid": 1}'])
def test_a_lock_without_a_holder_does_not(tmp_path, content):
    (tmp_path / ".run.lock").write_text(content)
    build(tmp_path).run([0])
    assert not (tmp_path / ".run.lock").exists()


def test_without_proc_the_number_alone_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "_read_start_ticks", lambda pid: None)
    write_lock(tmp_path)
    with pytest.raises(InputError):
        build(tmp_path).run([0])


def test_no_start_time_of_a_dead_process():
    assert run_lock._read_start_ticks(find_dead_pid()) is None


def test_other_ranks_take_no_lock(tmp_path, monkeypatch):
    write_lock(tmp_path)
    monkeypatch.setattr(run_lock.idist, "get_rank", lambda: 1)
    build(tmp_path).run([0])
    assert (tmp_path / ".run.lock").exists()
