"""Two processes that share a data set get the results of one process, and only the first writes."""

import json
import multiprocessing

import pytest
import torch
import torch.distributed
from ignite.engine import Engine

from pipeline.handlers import ThresholdSearch
from pipeline.metrics import CaseCount, HausdorffDistance95, LabelDice, PixelAccuracy, PooledDice


def draw_cases():
    """Five cases, so that one process has three and the other two; the fourth has no truth."""
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand((5, 1, 6, 5), generator=generator)
    truths = (torch.rand((5, 1, 6, 5), generator=generator) < 0.4).float()
    truths[3] = 0
    return list(zip(probs, truths, strict=True))


def score(cases, folder):
    metrics = {
        "dice": LabelDice(),
        "dice_pooled": PooledDice(),
        "hd95": HausdorffDistance95(unit="voxels"),
        "pixel_accuracy": PixelAccuracy(),
        "n_empty_gt": CaseCount("empty_gt"),
    }
    engine = Engine(lambda engine, batch: [{"prob": batch[0], "label": batch[1]}])
    ThresholdSearch(folder).attach(engine)
    engine.run(cases, max_epochs=1)
    for prob, truth in cases:
        for metric in metrics.values():
            metric([(prob >= 0.5).float()], [truth])
    found = {name: metric.aggregate().item() for name, metric in metrics.items()}
    return {**found, "rows": len(metrics["dice"].get_buffer()), **metrics["dice"].count_cases()}


def run_one_of_two(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = score(draw_cases()[rank::2], folder / str(rank))
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    context = multiprocessing.get_context("fork")  # what this process has imported need not be imported again
    processes = [context.Process(target=run_one_of_two, args=(rank, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0, 0]

    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    alone = score(draw_cases(), tmp_path / "alone")
    assert first == second == pytest.approx(alone)
    assert (alone["rows"], alone["n_empty_gt"]) == (5, 1)
    written = (tmp_path / "0" / "threshold.json").read_text()
    assert written == (tmp_path / "alone" / "threshold.json").read_text()
    assert "chosen on 5 cases" in written
    assert not (tmp_path / "1").exists()
