"""A bundle's own training in a process that can be killed at a chosen moment, and the same set up by hand."""

import time
from pathlib import Path

import tiny_training
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser

import pipeline.handlers.checkpoints.atomic_save as saving

BUNDLE = Path(__file__).parents[2] / "bundles/isic_unet"
SMALL = {
    "bundle_root": str(BUNDLE),
    "image_size": [32, 32],
    "amp": False,
    "check": False,
    "early_stop_patience": 1000,
    "train#dataset#copy_cache": True,
    "train#dataset#num_workers": 0,
    "validate#dataset#num_workers": 0,
}


def build(output_dir, data, **changes):
    """Read the bundle's config as `monai.bundle run` does."""
    parser = ConfigParser()
    parser.read_config([str(BUNDLE / "configs" / name) for name in ("train.json", "phantom.json")])
    parser.update({**SMALL, **data, "output_dir": str(output_dir), **changes})
    parser.get_parsed_content("initialize")
    return parser


def train(output_dir, data, changes, moment=None):
    """Train with a log of exact losses; wait to be killed at a moment such as ("validation", 3)."""
    parser = build(output_dir, data, **changes)
    trainer = parser.get_parsed_content("train#trainer")
    tiny_training.LossLog(Path(output_dir) / "losses.txt").attach(trainer)
    if moment is not None:
        wait_at(parser, trainer, Path(output_dir), *moment)
    parser.get_parsed_content("run")


def wait_at(parser, trainer, folder, kind, number):
    """Wait for ever in a training or validation iteration, or when half of a checkpoint is written."""

    def wait():
        folder.mkdir(exist_ok=True)
        (folder / "waiting").touch()
        time.sleep(1000)

    if kind == "saving":
        saving.torch.save = save_half(number, saving.torch.save, wait)
    else:
        engine = trainer if kind == "training" else parser.get_parsed_content("validate#evaluator")
        count = iter(range(1, 1_000_000))
        engine.add_event_handler(Events.ITERATION_STARTED, lambda: wait() if next(count) == number else None)


def save_half(number, save, wait):
    """Return a `torch.save` whose call of this number writes the first half only."""
    count = iter(range(1, 1_000_000))

    def write(state, file):
        save(state, file)
        if next(count) == number:
            file.truncate(file.tell() // 2)
            file.flush()
            wait()

    return write


def go_on_by_hand(output_dir, data, changes, checkpoint):
    """Put a checkpoint into a fresh training of other settings, as one would in a notebook, and train it."""
    parser = build(output_dir, data, **changes)
    state = torch.load(checkpoint, weights_only=True)
    network, optimizer, schedule, trainer = (
        parser.get_parsed_content(name) for name in ("network", "optimizer", "lr_scheduler", "train#trainer")
    )
    network.load_state_dict(state["network"])
    optimizer.load_state_dict({**state["optimizer"], "param_groups": optimizer.state_dict()["param_groups"]})
    for _ in range(state["trainer"]["epoch"]):
        schedule.step()
    trainer.state.epoch, trainer.state.iteration = state["trainer"]["epoch"], state["trainer"]["iteration"]
    tiny_training.LossLog(Path(output_dir) / "losses.txt").attach(trainer)
    trainer.run()
