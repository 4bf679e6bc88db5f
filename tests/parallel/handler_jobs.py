"""Trainings of a second that two processes share; each returns how it ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer

from pipeline import handlers, parallel
from pipeline.issues import InputError
from pipeline.parallel import agreement
from tests.handlers.tiny_training import PoisonAt, build_trainer


class SignalAt:
    """Send this process a signal in one iteration."""

    def __init__(self, iteration: int, number: int) -> None:
        self.iteration, self.number = iteration, number

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if engine.state.iteration == self.iteration:
            os.kill(os.getpid(), self.number)


class FailAt(SignalAt):
    """Raise what nobody expects."""

    def __call__(self, engine: Engine) -> None:
        if engine.state.iteration == self.iteration:
            raise KeyError("a broken slice")


FAULTS = {"nan": PoisonAt, "signal": lambda at: SignalAt(at, signal.SIGTERM), "error": lambda at: FailAt(at, 0)}
FAULTS["kill"] = lambda at: SignalAt(at, signal.SIGKILL)


def make_trainer(folder: Path, fault: str = "", rank: int = 1, at: int = 5, **options: Any) -> SupervisedTrainer:
    """Make a trainer of four epochs of three iterations; the fault comes in one process."""
    faults = [FAULTS[fault](at)] if fault and torch.distributed.get_rank() == rank else []
    return build_trainer(
        folder,
        before=[handlers.RunLock(folder), *faults],
        after=[handlers.GracefulStop(), handlers.RunRecord(folder, seed=3)],
        **options,
    )


def describe_end(run: Any) -> tuple[Any, str]:
    """Return exit code and line of a run; (0, "") if it ends well."""
    try:
        run()
    except InputError as error:
        return 1, str(error)
    except SystemExit as error:
        return int(str(error.code)), ""
    return 0, ""


def train(folder: Path, fault: str = "", rank: int = 1, **options: Any) -> dict[str, Any]:
    parallel.start("cpu")
    trainer = make_trainer(folder, fault, rank, **options)
    code, line = describe_end(trainer.run)
    return {"code": code, "line": line, "iteration": trainer.state.iteration, "best": trainer.checkpoint.best_epoch}


def resume(folder: Path) -> dict[str, Any]:
    return train(folder, resume=True)


def train_alone(rank: int, port: int, folder: Path, fault: str, log: Path) -> None:
    """Train as a process of its own, as torchrun starts it."""
    from tests.parallel.pair import log_to, set_variables

    log_to(str(log))
    torch.set_num_threads(1)
    set_variables(rank, port)
    parallel.start("cpu")
    try:
        make_trainer(folder, fault).run()
    except InputError as error:  # as a command ends
        raise SystemExit(str(error)) from None
    parallel.stop()


def train_in_own_folders(folder: Path) -> dict[str, Any]:
    """Resume from folders that are not shared, as on two machines."""
    parallel.start("cpu")
    own = folder / str(torch.distributed.get_rank())
    code, line = describe_end(make_trainer(own, resume=True).run)
    return {"code": code, "line": line}


def draw_numbers() -> list[float]:
    parallel.start("cpu")
    engine = Engine(lambda engine, batch: None)
    handlers.EpochSeed(7, torch.utils.data.DataLoader([0])).attach(engine)
    numbers: list[float] = []
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: numbers.extend([torch.rand(1).item(), np.random.rand()]))
    engine.run([0], max_epochs=2)
    return numbers


def stop_early(metrics: list[float]) -> int:
    """Validate with a metric that the processes do not agree on."""
    parallel.start("cpu")
    trainer, evaluator = Engine(lambda engine, batch: None), Engine(lambda engine, batch: None)
    handlers.EarlyStop(evaluator, "dice", patience=1).attach(trainer)

    def validate(engine: Engine) -> None:
        evaluator.state.metrics["dice"] = metrics[torch.distributed.get_rank()] * engine.state.epoch
        evaluator.run([0])

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    trainer.run([0], max_epochs=5)
    return trainer.state.epoch


def save_metrics(folder: Path, cases: list[str]) -> tuple[Any, str]:
    """Score cases, dealt out as validation does, and write the tables."""
    from monai.handlers import IgniteMetricHandler
    from monai.metrics import MSEMetric

    parallel.start("cpu")
    numbers = list(parallel.ValidationSampler(cases))
    batches = [[{"case_id": cases[number], "number": float(number)}] for number in numbers]
    engine = Engine(lambda engine, batch: batch)
    metric = IgniteMetricHandler(
        MSEMetric(),
        output_transform=lambda items: tuple(torch.full((1, 1), value) for value in (items[0]["number"], 0.0)),
    )
    metric.attach(engine, "error")
    handlers.CaseMetricsSaver(folder, metric_details=["error"]).attach(engine)
    return describe_end(lambda: engine.run(batches))


def save_calibration(folder: Path, cases: list[str]) -> tuple[Any, str]:
    """Measure cases whose truth has a probability of 0.15, 0.25, 0.35, ..., dealt out as validation does."""
    from pipeline.transforms import MeasureProbabilitiesd

    parallel.start("cpu")
    truth = torch.zeros(1, 20, 20)
    truth[0, 5:15, 5:15] = 1
    numbers = list(parallel.ValidationSampler(cases))
    batches = [[{"case_id": cases[k], "pred": truth * (0.15 + k / 10), "label": truth}] for k in numbers]
    engine = Engine(lambda engine, batch: [MeasureProbabilitiesd("pred")(item) for item in batch])
    handlers.CalibrationSaver(folder).attach(engine)
    handlers.CaseMetricsSaver(folder, metric_details=["brier_*", "doubt"]).attach(engine)
    return describe_end(lambda: engine.run(batches))


def write_events(folder: Path) -> None:
    parallel.start("cpu")
    writer = parallel.open_summary_writer(str(folder))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    engine = Engine(lambda engine, batch: None)
    handlers.LearningRateLog(writer, optimizer).attach(engine)
    engine.run([0], max_epochs=2)
    writer.close()


def divide(batch_size: int) -> tuple[Any, Any]:
    parallel.start("cpu")
    shares: list[int] = []
    return describe_end(lambda: shares.append(parallel.divide_batch(batch_size))), shares


def deal_out(count: int) -> tuple[Any, Any]:
    parallel.start("cpu")
    cases: list[int] = []
    return describe_end(lambda: cases.extend(parallel.ValidationSampler(range(count)))), cases


def log_and_draw_bars() -> None:
    import logging
    import sys

    from tqdm import tqdm

    parallel.start("cpu")
    rank = torch.distributed.get_rank()
    logger = logging.getLogger("pair")
    handler = logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    logger.warning("a warning of %d", rank)
    logger.error("an error of %d", rank)
    for _ in tqdm([0], desc=f"bar of {rank}"):
        pass
    logger.removeHandler(handler)
    parallel.stop()
    logging.getLogger().warning("logging is back in %d", rank)


def report_agreement() -> list[Any]:
    parallel.start("cpu")
    rank = torch.distributed.get_rank()
    return [parallel.agree_on(rank == 0), parallel.any_process(rank == 1), parallel.collect(f"ä{rank}")]


def explain_errors() -> dict[str, bool]:
    parallel.start("cpu")
    closed = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    wrapped = TypeError("unable to sync buffer contents")
    wrapped.__cause__ = closed
    errors = {
        "gloo": closed,
        "torch": torch.distributed.DistNetworkError("x"),
        "wrapped": wrapped,
        "other": RuntimeError("x"),
    }
    return {name: agreement.explain_lost_process(error) is not None for name, error in errors.items()}


def record_errors(folder: Path) -> None:
    parallel.start("cpu")
    rank = torch.distributed.get_rank()
    os.environ["TORCHELASTIC_ERROR_FILE"] = str(folder / f"{rank}.json")
    try:
        agreement.record_failure(InputError("disk full") if rank == 0 else SystemExit(1))
    finally:
        del os.environ["TORCHELASTIC_ERROR_FILE"]


class Picky(torch.nn.Module):
    """Uses one of its two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.used(value)


def train_with_unused_parameters() -> list[bool]:
    """Train two steps; torch refuses the second one if a gradient never came."""
    parallel.start("cpu")
    refused = []
    for flag in (False, "true"):
        network = parallel.wrap_network(Picky(), "cpu", find_unused_parameters=flag)
        try:
            for _ in range(2):
                network(torch.ones(1, 1)).sum().backward()
            refused.append(False)
        except RuntimeError as error:
            refused.append("find_unused_parameters" in str(error))
    return [refused[0], not refused[1]]


class Fetched(torch.nn.Linear):
    """Notes when its weights are loaded."""

    def load_encoder_weights(self, weights: str, partial: bool) -> None:
        folder, rank = Path(weights), torch.distributed.get_rank()
        if folder.name == "missing":
            raise InputError(f"no weights at {weights}")
        if rank == 0:
            (folder / "fetched").touch()
        assert (folder / "fetched").exists(), "the second process comes after the first"
        self.bias.data.fill_(7)


def load_encoder(weights: str) -> tuple[Any, str, float]:
    parallel.start("cpu")
    network = parallel.wrap_network(Fetched(1, 1), "cpu")
    engine = Engine(lambda engine, batch: None)
    handlers.EncoderWeightsLoader(network, weights).attach(engine)
    return *describe_end(lambda: engine.run([0])), network.bias.item()
