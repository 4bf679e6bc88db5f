"""A tiny training with all handlers of `TrainingRun`, under one name or one by one."""

import json

import torch
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.transforms import Compose, EnsureTyped, RandGaussianNoised
from monai.utils import set_determinism
from tiny_training import KEY, LossLog, build_evaluator, build_network, make_cases

from pipeline import handlers


class Scalars:
    """In place of TensorBoard's writer."""

    def __init__(self):
        self.written = []

    def add_scalar(self, tag, value, step):
        self.written.append((tag, step))

    def close(self):
        self.closed = True


def build(
    folder, max_epochs=4, one_by_one=False, after=(), writer=None, schedule_length=4, cases=None, interval=1, **options
):
    set_determinism(3)
    noise = Compose([EnsureTyped(["image", "label"]), RandGaussianNoised("image", prob=0.5)])
    loader = DataLoader(
        CacheDataset(make_cases(6) if cases is None else cases, noise, progress=False), batch_size=2, shuffle=True
    )
    network = build_network()
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule_length)
    evaluator = build_evaluator(network)
    to_save = {"network": network, "optimizer": optimizer, "lr_scheduler": scheduler}
    schedule, validation = LrScheduleHandler(scheduler, print_lr=False), ValidationHandler(interval, evaluator)
    if one_by_one:
        times = handlers.LoaderTimes()
        run = [
            handlers.RunLock(folder),
            handlers.GracefulStop(),
            handlers.EpochSeed(3, loader),
            schedule,
            handlers.NonFiniteGuard(folder),
            validation,
            handlers.FinalValidation(evaluator),
            handlers.TrainingCheckpoint(folder, to_save, evaluator, KEY),
            handlers.EarlyStop(evaluator, KEY),
            handlers.RunRecord(folder, 3, evaluator=evaluator, parts=[times]),
            handlers.ResumedValidation(evaluator),
            handlers.ScheduleRestart(scheduler),
            handlers.TrainingProgress(evaluator, KEY),
            times,
            handlers.LearningRateLog(writer, optimizer),
            handlers.SummaryWriterEnd(writer),
        ]
    else:
        run = [
            schedule,
            validation,
            handlers.TrainingRun(folder, loader, evaluator, to_save, KEY, seed=3, summary_writer=writer, **options),
        ]
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=max_epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=torch.nn.BCEWithLogitsLoss(),
        train_handlers=[*run, LossLog(folder / "losses.txt"), *after],
    )
    trainer.evaluator = evaluator
    trainer.checkpoint_handler = next(
        handler
        for item in run
        for handler in getattr(item, "handlers", [item])
        if isinstance(handler, handlers.TrainingCheckpoint)
    )
    if one_by_one:
        handlers.EmptyPredictions("look", trainer).attach(evaluator)
    return trainer


def read_record(folder):
    return json.loads((folder / "run.json").read_text())
