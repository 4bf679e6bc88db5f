"""Our handlers in a training of two processes: they end together, and what is written is written once."""

from __future__ import annotations

import json
import multiprocessing
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline import handlers, parallel
from pipeline.runs.reliability import read_reliability
from pipeline.runs.tables import read_scores
from tests.parallel import handler_jobs as jobs
from tests.parallel.pair import PROCESSES, Pair, find_port


def read_record(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "run.json").read_text()))


def test_a_training_writes_its_files_once(pair: Pair, tmp_path: Path) -> None:
    ends = pair.run(jobs.train, tmp_path)
    assert [(end["code"], end["iteration"]) for end in ends] == [(0, 12), (0, 12)]
    assert ends[0]["best"] == ends[1]["best"]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.pt", "last_epoch=3.pt", "last_epoch=4.pt", "run.json", "losses.txt"}
    record = read_record(tmp_path)
    assert (record["status"], record["processes"]) == ("finished", 2)
    assert "previous" not in record


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_stops_all_after_the_same_iteration(pair: Pair, rank: int, tmp_path: Path) -> None:
    ends = pair.run(jobs.train, tmp_path, "signal", rank)
    assert [(end["code"], end["iteration"]) for end in ends] == [(143, 5), (143, 5)]
    assert read_record(tmp_path)["status"] == "interrupted"
    assert {path.name for path in tmp_path.glob("*.pt")} == {"model.pt", "last_epoch=1.pt"}


@pytest.mark.parametrize("rank", [0, 1])
def test_a_loss_that_is_no_number_in_one_stops_all(pair: Pair, rank: int, tmp_path: Path) -> None:
    first, second = pair.run(jobs.train, tmp_path, "nan", rank)
    assert first["line"].startswith("loss is nan in epoch 2, iteration 5: cases case_")
    assert "last checkpoint" in first["line"]
    assert (second["code"], second["line"]) == (1, ""), "one line, not two"
    assert first["iteration"] == second["iteration"] == 5
    assert read_record(tmp_path)["error"] == first["line"]
    assert not (tmp_path / ".run.lock").exists()


def test_a_resumed_training_begins_where_it_was_in_all(pair: Pair, tmp_path: Path) -> None:
    pair.run(jobs.train, tmp_path, "signal")
    ends = pair.run(jobs.resume, tmp_path)
    assert [(end["code"], end["iteration"]) for end in ends] == [(0, 12), (0, 12)]


def test_an_earlier_run_is_named_once(pair: Pair, tmp_path: Path) -> None:
    pair.run(jobs.train, tmp_path)
    first, second = pair.run(jobs.train, tmp_path)
    assert "is from an earlier run" in first["line"]
    assert (second["code"], second["line"]) == (1, "")


def test_a_locked_folder_is_refused_by_all(pair: Pair, tmp_path: Path) -> None:
    lock = handlers.RunLock(tmp_path)
    lock.acquire(None)  # type: ignore[arg-type]
    first, second = pair.run(jobs.train, tmp_path)
    assert "is in use by process" in first["line"]
    assert (second["code"], second["line"]) == (1, "")


def test_folders_that_are_not_shared_are_refused(pair: Pair, tmp_path: Path) -> None:
    pair.run(jobs.train, tmp_path / "0")
    (tmp_path / "1").mkdir()
    first, second = pair.run(jobs.train_in_own_folders, tmp_path)
    assert first["line"].startswith("process 1: resume: no loadable checkpoint in")
    assert (second["code"], second["line"]) == (1, "")
    (tmp_path / "1/last_epoch=3.pt").write_bytes((tmp_path / "0/last_epoch=3.pt").read_bytes())
    first, second = pair.run(jobs.train_in_own_folders, tmp_path)
    assert first["line"].startswith("resume: the processes found checkpoints of different epochs, 4, 3")
    assert (second["code"], second["line"]) == (1, "")


@pytest.mark.fault
@pytest.mark.parametrize("fault", ["kill", "error"])
def test_a_process_that_is_gone_is_one_line_of_the_other(fault: str, tmp_path: Path) -> None:
    context, port = multiprocessing.get_context("forkserver"), find_port()
    logs = [tmp_path / f"log_{rank}.txt" for rank in range(PROCESSES)]
    arguments = [(rank, port, tmp_path / "out", fault, logs[rank]) for rank in range(PROCESSES)]
    processes = [context.Process(target=jobs.train_alone, args=each) for each in arguments]
    for process in processes:
        process.start()
    processes[1].join(60)
    lost = time.monotonic()
    processes[0].join(60)
    assert time.monotonic() - lost < 10
    assert [process.exitcode for process in processes] == [1, -9 if fault == "kill" else 1]
    lines = [line for line in logs[0].read_text().splitlines() if " INFO " not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("process 0 cannot go on: another process of this run has ended")
    if fault == "error":
        assert "KeyError: 'a broken slice'" in logs[1].read_text()
    record = read_record(tmp_path / "out")
    assert (record["status"], record["error"]) == ("failed", lines[0])
    assert not (tmp_path / "out/.run.lock").exists()


def test_each_process_draws_numbers_of_its_own(pair: Pair) -> None:
    first, second = pair.run(jobs.draw_numbers)
    assert len({*first, *second}) == len(first) + len(second)
    torch.manual_seed(8)
    assert first[0] == torch.rand(1).item(), "the first process draws what one process alone would"


@pytest.mark.parametrize(("metrics", "epochs"), [([1.0, -1.0], 5), ([-1.0, 1.0], 2)])
def test_the_first_process_decides_when_to_stop_early(pair: Pair, metrics: list[float], epochs: int) -> None:
    assert pair.run(jobs.stop_early, metrics) == [epochs, epochs]


def test_tables_hold_every_case_once(pair: Pair, tmp_path: Path) -> None:
    cases = ["a", "b", "ä, with a comma", "d", "e"]
    assert pair.run(jobs.save_metrics, tmp_path, cases) == [(0, ""), (0, "")]
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv", "error_raw.csv"}
    rows = sorted((tmp_path / "error_raw.csv").read_text().splitlines()[1:])
    assert rows == [
        '"ä, with a comma",4.0,4.0,,case',
        *("a,0.0,0.0,,case", "b,1.0,1.0,,case", "d,9.0,9.0,,case", "e,16.0,16.0,,case"),
    ]
    _, row = (tmp_path / "metrics.csv").read_text().splitlines()
    assert row.startswith("error,6.0,5,0,")


def test_tables_that_cannot_be_written_end_all(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AssertionError, match=r"process 0: (.|\n)*(FileExistsError|NotADirectoryError)"):
        pair.run(jobs.save_metrics, tmp_path / "file", ["a", "b"])


def test_events_are_written_by_the_first_process(pair: Pair, tmp_path: Path) -> None:
    pair.run(jobs.write_events, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("learning_rate")] == [1, 2]


def test_a_batch_is_divided(pair: Pair) -> None:
    assert pair.run(jobs.divide, 6) == [((0, ""), [3])] * 2
    line = (
        "batch_size 5 cannot be divided among 2 processes: choose a multiple, such as --batch_size 4, or another "
        "--nproc_per_node"
    )
    assert pair.run(jobs.divide, 5) == [((1, line), []), ((1, ""), [])]


def test_cases_are_dealt_out_without_repetition(pair: Pair) -> None:
    assert pair.run(jobs.deal_out, 5) == [((0, ""), [0, 2, 4]), ((0, ""), [1, 3])]
    line = "2 processes, but 1 validation cases: each process needs one; start at most 1 with --nproc_per_node"
    assert pair.run(jobs.deal_out, 1) == [((1, line), []), ((1, ""), [])]


def test_later_processes_are_quiet_but_for_errors(pair: Pair) -> None:
    before = len(pair.log.read_text())
    pair.run(jobs.log_and_draw_bars)
    text = pair.log.read_text()[before:]
    for shown in ("a warning of 0", "an error of 0", "an error of 1", "bar of 0", "back in 0", "back in 1"):
        assert shown in text, shown
    assert "a warning of 1" not in text
    assert "bar of 1" not in text


def test_processes_agree(pair: Pair) -> None:
    assert pair.run(jobs.report_agreement) == [[True, True, ["ä0", "ä1"]]] * 2


def test_alone_nothing_is_asked() -> None:
    assert parallel.collect({"a": 1}) == [{"a": 1}]
    with pytest.raises(KeyError), parallel.exit_together():
        raise KeyError("a")


def test_the_first_process_fetches_the_weights_of_an_encoder(pair: Pair, tmp_path: Path) -> None:
    assert pair.run(jobs.load_encoder, str(tmp_path)) == [(0, "", 7.0), (0, "", 7.0)]
    first, second = pair.run(jobs.load_encoder, str(tmp_path / "missing"))
    assert first[:2] == (1, f"no weights at {tmp_path / 'missing'}")
    assert second[:2] == (1, "")


def test_calibration_is_of_the_cases_of_all_processes(pair: Pair, tmp_path: Path) -> None:
    cases = ["a", "b", "c", "d", "e"]
    assert pair.run(jobs.save_calibration, tmp_path, cases) == [(0, ""), (0, "")]
    expected = {case: (0.85 - k / 10) ** 2 / 4 for k, case in enumerate(cases)}  # a quarter of the pixels is wrong
    assert read_scores(tmp_path / "brier_all_raw.csv") == pytest.approx(expected, abs=1e-4)
    said = read_reliability(tmp_path)
    assert said is not None
    assert said["cases"] == 5
    assert [table["voxels"] for table in said["tables"] if table["region"] == "all"] == [5 * 400]
