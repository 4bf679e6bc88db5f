"""Two processes started by torchrun, one of them killed: one line of the survivor, whole files, exit code 1."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_training
import torch

from pipeline.handlers.checkpoints.checkpoint_files import find_last

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(600)]

FOLDER = Path(tiny_training.__file__).parent
# Started as torchrun starts a program: two processes, one of which is killed in the third of four epochs.
PROGRAM = """
import os, signal, sys
sys.path.insert(0, {folder!r})
import tiny_training
from ignite.engine import Events
from pipeline import handlers, parallel

class KillAt:
    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_STARTED, self)
    def __call__(self, engine):
        if engine.state.iteration == 8 and os.environ["RANK"] == "{rank}":
            os.kill(os.getpid(), signal.SIGKILL)

parallel.start("cpu")
out = sys.argv[1]
tiny_training.build_trainer(
    out,
    before=[handlers.RunLock(out), KillAt()],
    after=[handlers.GracefulStop(), handlers.RunRecord(out, seed=3)],
).run()
"""


@pytest.mark.parametrize("rank", [0, 1])
def test_torchrun(rank, tmp_path, repository):
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(PROGRAM.format(folder=str(FOLDER), rank=rank))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(program), str(out)], capture_output=True, text=True, env=environment, timeout=500, check=False
    )
    assert done.returncode == 1
    # Everything before torchrun's own report is ours.
    ours = re.split(r"^.*torch/distributed/elastic/multiprocessing/api.py:\d+\] failed", done.stderr, flags=re.M)[0]
    lines = [line for line in ours.splitlines() if "torch/distributed/elastic" not in line and "SIGTERM" not in line]
    lost = [line for line in lines if line.startswith(f"process {1 - rank} cannot go on: another process of this run")]
    assert len(lost) == 1, ours
    assert "Traceback" not in ours
    assert re.search(r"exitcode +: -9 .*\(SIGKILL\)", done.stderr), "torchrun's table names the one that was killed"

    assert [path.name for path in find_last(out)] == ["last_epoch=2.pt", "last_epoch=1.pt"]
    for path in [out / "model.pt", *find_last(out)]:
        assert torch.load(path, weights_only=True)
    assert not list(out.glob(".*.tmp"))
    if rank == 1:
        record = json.loads((out / "run.json").read_text())
        assert (record["status"], record["error"]) == ("failed", lost[0])
    resumed = tiny_training.build_trainer(out, resume=True)
    resumed.run()
    assert resumed.state.epoch == 4
