"""A training starts from the weights of another one: what is copied, what is told, and when nothing is."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.networks.nets import BasicUNet

from pipeline.handlers import EncoderWeightsLoader, InitialWeights, TrainingRun
from pipeline.issues import InputError


def make_network(channels: int = 1, labels: int = 1) -> torch.nn.Module:
    return BasicUNet(2, channels, labels, features=(4, 4, 4, 4, 4, 4))


@pytest.fixture
def saved(tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    torch.manual_seed(7)
    network = make_network()
    torch.save(network.state_dict(), tmp_path / "other.pt")
    return network, tmp_path / "other.pt"


def attach(handler: InitialWeights) -> None:
    handler.attach(Engine(lambda engine, batch: None))


def is_equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def test_all_tensors_are_copied_and_recorded(saved: tuple[torch.nn.Module, Path]) -> None:
    other, path = saved
    network = make_network()
    assert not is_equal(network, other)
    handler = InitialWeights(network, path)
    attach(handler)
    assert is_equal(network, other)
    count = len(network.state_dict())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = {"path": str(path), "sha256": digest, "tensors": count, "of": count}
    assert handler.describe() == {"initial_weights": expected}


def test_half_precision_becomes_that_of_the_network(saved: tuple[torch.nn.Module, Path]) -> None:
    other, path = saved
    torch.save({name: value.half() for name, value in other.state_dict().items()}, path)
    network = make_network()
    attach(InitialWeights(network, path))
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    first, second = (next(iter(item.parameters())) for item in (network, other))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)


def test_another_number_of_labels_keeps_the_rest(
    saved: tuple[torch.nn.Module, Path], caplog: pytest.LogCaptureFixture
) -> None:
    other, path = saved
    network = make_network(labels=3)
    with caplog.at_level(logging.INFO):
        attach(InitialWeights(network, path))
    count = len(network.state_dict())
    assert torch.equal(network.upcat_1.convs.conv_1.conv.weight, other.upcat_1.convs.conv_1.conv.weight)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("pipeline")]
    assert lines == [
        f"the training starts from {path}: {count - 2} of {count} tensors",
        "2 tensors start from random values: final_conv.weight is (1, 4, 1, 1), expected (3, 4, 1, 1) "
        "(and 1 more difference)",
    ]


def test_another_network_is_refused(saved: tuple[torch.nn.Module, Path]) -> None:
    with pytest.raises(InputError, match=r"other\.pt does not fit .*: 0 of 2 tensors do; weight is missing") as caught:
        attach(InitialWeights(torch.nn.Linear(2, 2), saved[1]))
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint at .*nope\.pt; name one with --initial_weights"):
        attach(InitialWeights(make_network(), tmp_path / "nope.pt"))


@pytest.mark.parametrize("nothing", [None, "", "none", "None", "null"])
def test_without_a_file_nothing_is_done(nothing: str | None) -> None:
    network = make_network()
    before = make_network()
    before.load_state_dict(network.state_dict())
    handler = InitialWeights(network, nothing)
    attach(handler)
    assert is_equal(network, before)
    assert handler.describe() == {}


@pytest.mark.parametrize("resume", [True, "true"])
def test_a_resumed_training_does_not_even_read_it(resume: bool | str, tmp_path: Path) -> None:
    attach(InitialWeights(make_network(), tmp_path / "removed.pt", resume=resume))


def test_the_encoder_is_not_replaced_afterwards(saved: tuple[torch.nn.Module, Path]) -> None:
    class Network(torch.nn.Linear):
        def load_encoder_weights(self, weights: str, partial: bool) -> None:
            raise AssertionError("replaced the weights that the training starts from")

    engine = Engine(lambda engine, batch: None)
    EncoderWeightsLoader(Network(1, 1), "imagenet", initial_weights=saved[1]).attach(engine)
    engine.run([0])
    engine = Engine(lambda engine, batch: None)
    EncoderWeightsLoader(Network(1, 1), "imagenet", initial_weights="none").attach(engine)
    with pytest.raises(AssertionError):
        engine.run([0])


def test_a_training_run_starts_from_them_and_writes_them_down(
    saved: tuple[torch.nn.Module, Path], tmp_path: Path
) -> None:
    other, path = saved
    network = make_network()
    loader = torch.utils.data.DataLoader([0])
    trainer = Engine(lambda engine, batch: None)
    evaluator = Engine(lambda engine, batch: None)
    to_save = {"network": network, "optimizer": torch.optim.SGD(network.parameters(), 0.1)}
    run = TrainingRun(tmp_path / "run", loader, evaluator, to_save, initial_weights=path)
    run.attach(trainer)
    assert is_equal(network, other), "before a client or a server sets the weights of a round"
    record = next(handler for handler in run.handlers if hasattr(handler, "parts"))
    assert json.loads(json.dumps(record.parts[0].describe()))["initial_weights"]["path"] == str(path)
