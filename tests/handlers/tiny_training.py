"""A training of a second, with everything a real one has: cache, workers, random transforms, dropout, validation.

Tests import it, or run it as a process that they can kill: `python tiny_training.py OUT --resume`.
"""

import argparse
import logging
import time
from pathlib import Path

import torch
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanDice, StatsHandler, ValidationHandler, from_engine
from monai.transforms import AsDiscreted, Compose, EnsureTyped, RandFlipd, RandGaussianNoised
from monai.utils import set_determinism

from pipeline import handlers
from pipeline.transforms import AugmentBatch

KEY = "val_mean_dice"


class LossLog:
    """Append one line an iteration: epoch, iteration, exact loss."""

    def __init__(self, path):
        self.path = Path(path)

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            state = engine.state
            file.write(f"{state.epoch} {state.iteration} {float(state.output[0]['loss']).hex()}\n")


class Gate:
    """Wait in one iteration until somebody opens the gate: then a test can act at a known moment."""

    def __init__(self, folder, iteration):
        self.folder, self.iteration = Path(folder), iteration

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine):
        if engine.state.iteration != self.iteration:
            return
        (self.folder / "waiting").touch()
        while not (self.folder / "open").exists():
            time.sleep(0.01)


class PoisonAt:
    """Make the images of one iteration NaN."""

    def __init__(self, iteration):
        self.iteration = iteration

    def attach(self, engine):
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine):
        if engine.state.iteration == self.iteration:
            engine.state.batch["image"].mul_(float("nan"))


def read_losses(path):
    """Return {(epoch, iteration): loss}; of a repeated iteration the later one."""
    rows = [line.split() for line in Path(path).read_text().splitlines()]
    return {(int(epoch), int(iteration)): loss for epoch, iteration, loss in rows}


def make_cases(count, first=0):
    generator = torch.Generator().manual_seed(first)
    cases = []
    for index in range(first, first + count):
        image = torch.rand(1, 8, 8, generator=generator)
        cases.append({"case_id": f"case_{index}", "image": image, "label": (image > 0.5).float()})
    return cases


def build_network(width=4):
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, width, 3, padding=1), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Conv2d(width, 1, 1)
    )


def build_evaluator(network, extra=()):
    loader = DataLoader(CacheDataset(make_cases(2, 100), EnsureTyped(["image", "label"]), progress=False))
    return SupervisedEvaluator(
        device="cpu",
        val_data_loader=loader,
        network=network,
        postprocessing=AsDiscreted("pred", threshold=0.0),
        key_val_metric={KEY: MeanDice(output_transform=from_engine(["pred", "label"]))},
        val_handlers=list(extra),
    )


def build_trainer(
    output_dir, max_epochs=4, workers=0, seed=3, width=4, before=(), after=(), evaluator_extra=(), **options
):
    """Build a trainer; `before` and `after` are handlers around ours, `options` go to TrainingCheckpoint."""
    set_determinism(seed)
    random_transforms = [
        EnsureTyped(["image", "label"]),
        RandFlipd(["image", "label"], prob=0.5),
        RandGaussianNoised("image", prob=0.5),
    ]
    dataset = CacheDataset(make_cases(6), Compose(random_transforms), progress=False)
    loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=workers)
    network = build_network(width)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    evaluator = build_evaluator(network, evaluator_extra)
    checkpoint = handlers.TrainingCheckpoint(
        output_dir,
        to_save={"network": network, "optimizer": optimizer, "lr_scheduler": scheduler},
        evaluator=evaluator,
        **options,
    )
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=max_epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        prepare_batch=AugmentBatch([RandFlipd(["image", "label"], 0.5, 1), RandGaussianNoised("image", prob=0.5)]),
        loss_function=torch.nn.BCEWithLogitsLoss(),
        train_handlers=[
            *before,
            handlers.EpochSeed(seed, loader),
            LrScheduleHandler(scheduler, print_lr=False),
            ValidationHandler(1, evaluator),
            checkpoint,
            StatsHandler(iteration_log=False, output_transform=lambda output: None),
            handlers.NonFiniteGuard(output_dir),
            LossLog(Path(output_dir) / "losses.txt"),
            *after,
        ],
    )
    trainer.checkpoint = checkpoint
    trainer.evaluator = evaluator
    return trainer


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("output_dir")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--max-epochs", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--gate", type=int, default=-1, help="iteration in which to wait")
    parser.add_argument("--validation-gate", type=int, default=-1, help="validation iteration in which to wait")
    parser.add_argument("--poison", type=int, default=-1, help="iteration with a NaN")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    torch.set_num_threads(1)
    trainer = build_trainer(
        options.output_dir,
        options.max_epochs,
        options.workers,
        width=options.width,
        resume=options.resume,
        before=[
            handlers.RunLock(options.output_dir),
            Gate(options.output_dir, options.gate),
            PoisonAt(options.poison),
        ],
        after=[handlers.GracefulStop(), handlers.RunRecord(options.output_dir, seed=3)],
        evaluator_extra=[Gate(options.output_dir, options.validation_gate)],
    )
    trainer.run()


if __name__ == "__main__":
    main()
