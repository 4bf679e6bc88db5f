"""EpochSeed: a resumed run computes exactly the losses of one that was never interrupted."""

import pytest
import tiny_training
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.transforms import Compose, Randomizable

from pipeline.handlers import EpochSeed
from pipeline.issues import InputError
from pipeline.transforms import AugmentBatch


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_losses_are_exactly_equal(tmp_path, workers):
    tiny_training.build_trainer(tmp_path / "straight", workers=workers).run()
    tiny_training.build_trainer(tmp_path / "resumed", max_epochs=2, workers=workers).run()
    tiny_training.build_trainer(tmp_path / "resumed", workers=workers, resume=True).run()
    straight, resumed = (tiny_training.read_losses(tmp_path / name / "losses.txt") for name in ("straight", "resumed"))
    assert len(straight) == 12
    assert resumed == straight
    for name in ("model.pt", "last_epoch=4.pt"):
        first, second = (torch.load(tmp_path / run / name, weights_only=True) for run in ("straight", "resumed"))
        assert_same(first, second)


def assert_same(first, second):
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list):
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def test_epochs_differ_and_seeds_differ(tmp_path):
    losses = []
    for seed in (3, 4):
        tiny_training.build_trainer(tmp_path / str(seed), max_epochs=2, seed=seed).run()
        losses.append(tiny_training.read_losses(tmp_path / str(seed) / "losses.txt"))
    assert len({*losses[0].values(), *losses[1].values()}) == 12


def test_an_epoch_shorter_than_the_loader_restarts_the_loader():
    loader = torch.utils.data.DataLoader(range(10), shuffle=True)
    engine = Engine(lambda engine, batch: int(batch))
    EpochSeed(0, loader).attach(engine)
    seen = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(engine.state.output))
    engine.run(loader, max_epochs=3, epoch_length=4)
    straight = seen.copy()
    seen.clear()
    engine.load_state_dict({"epoch": 2, "max_epochs": 3, "epoch_length": 4})
    engine.run(loader)
    assert seen == straight[8:]


def test_a_generator_of_the_loader_is_reseeded():
    loader = torch.utils.data.DataLoader(range(6), shuffle=True, generator=torch.Generator())
    engine = Engine(lambda engine, batch: int(batch))
    EpochSeed(0, loader).attach(engine)
    seen = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(engine.state.output))
    for _ in range(2):
        engine.run(loader, max_epochs=1)
    assert seen[:6] == seen[6:]


def test_persistent_workers_are_refused():
    loader = torch.utils.data.DataLoader(range(3), num_workers=1, persistent_workers=True)
    with pytest.raises(InputError, match=r"^persistent_workers is true: .*set it to false$"):
        EpochSeed(0, loader)


def test_loader_and_augmentation_draw_different_numbers_and_repeat_them():
    class Draw(Randomizable):
        def draw(self):
            return self.R.random(8).tolist()

    def run(epochs):
        chains = [Compose([Draw()]), AugmentBatch([Draw()])]
        dataset = Dataset([0], chains[0])
        engine = Engine(lambda engine, batch: None)
        engine.prepare_batch = chains[1]
        EpochSeed(3, torch.utils.data.DataLoader(dataset, batch_size=None)).attach(engine)
        found = []
        steps = [chains[0].transforms[0], chains[1].transforms.transforms[0]]
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: found.extend(step.draw() for step in steps))
        engine.run([0], max_epochs=epochs)
        return found

    found = run(3)
    assert len({number for numbers in found for number in numbers}) == 3 * 2 * 8
    assert run(3) == found
