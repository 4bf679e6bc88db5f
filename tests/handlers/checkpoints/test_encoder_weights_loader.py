"""Pretrained weights when a training starts: read then and only then, and told in one line when they do not fit."""

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser

from pipeline.handlers import EncoderWeightsLoader
from pipeline.issues import InputError
from pipeline.networks import UNetPlusPlus, make_encoder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    encoder = make_encoder("resnet18", depth=2)
    torch.nn.init.constant_(encoder.conv1.weight, 0.5)
    torch.save(encoder.state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.fixture
def network() -> UNetPlusPlus:
    return UNetPlusPlus(2, 3, 1, encoder="resnet18", encoder_depth=2)


def start(loader: EncoderWeightsLoader) -> None:
    engine = Engine(lambda engine, batch: None)
    loader.attach(engine)
    engine.run([0])


def is_loaded(network: UNetPlusPlus) -> bool:
    return bool((network.encoder.conv1.weight == 0.5).all())


@pytest.mark.parametrize("wrap", [lambda network: network, torch.nn.DataParallel])
def test_loads_when_the_training_starts(wrap, network: UNetPlusPlus, weights: Path) -> None:
    loader = EncoderWeightsLoader(wrap(network), str(weights))
    assert not is_loaded(network)
    start(loader)
    assert is_loaded(network)


@pytest.mark.parametrize("resume", [True, "true"])
def test_resumed_training_keeps_its_weights(resume, network: UNetPlusPlus, weights: Path) -> None:
    start(EncoderWeightsLoader(network, weights, resume=resume))
    weights.unlink()
    start(EncoderWeightsLoader(network, weights, resume=resume))
    assert not is_loaded(network)


@pytest.mark.parametrize("nothing", [None, "", "none", "None", "null"])
def test_from_scratch(nothing, network: UNetPlusPlus) -> None:
    start(EncoderWeightsLoader(network, nothing))
    start(EncoderWeightsLoader(torch.nn.Conv2d(1, 1, 1), nothing))
    assert not is_loaded(network)


def test_missing_file(network: UNetPlusPlus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no weights file at .*nope\.pth.* are: imagenet; give the path") as caught:
        start(EncoderWeightsLoader(network, tmp_path / "nope.pth"))
    assert "\n" not in str(caught.value)


def test_weights_of_a_shallower_network(weights: Path) -> None:
    deeper = UNetPlusPlus(2, 3, 1, encoder="resnet18", encoder_depth=3)
    with pytest.raises(InputError, match="25 of 50 tensors missing"):
        start(EncoderWeightsLoader(deeper, weights))
    start(EncoderWeightsLoader(deeper, weights, partial="true"))
    assert is_loaded(deeper)


def test_network_without_such_an_encoder() -> None:
    with pytest.raises(
        InputError, match=r"--encoder_weights a\.pth: Conv2d has no pretrained encoder; leave the option"
    ):
        EncoderWeightsLoader(torch.nn.Conv2d(1, 1, 1), "a.pth")


def test_in_a_config(weights: Path) -> None:
    parser = ConfigParser(
        {
            "encoder_weights": str(weights),
            "resume": "false",
            "network": {
                "_target_": "pipeline.networks.UNetPlusPlus",
                "spatial_dims": 2,
                "in_channels": 1,
                "out_channels": 1,
                "encoder": "resnet18",
                "encoder_depth": 2,
            },
            "loader": {
                "_target_": "pipeline.handlers.EncoderWeightsLoader",
                "network": "@network",
                "weights": "@encoder_weights",
                "resume": "@resume",
            },
        }
    )
    start(parser.get_parsed_content("loader"))
    kernel = parser.get_parsed_content("network").encoder.conv1.weight
    torch.testing.assert_close(kernel, torch.full_like(kernel, 1.5))  # the sum of red, green and blue


def test_one_line_is_all_that_is_printed(network: UNetPlusPlus, tmp_path: Path, caplog) -> None:
    engine = Engine(lambda engine, batch: None)
    EncoderWeightsLoader(network, tmp_path / "nope.pth").attach(engine)
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: pytest.fail("trained without its weights"))
    with pytest.raises(InputError):
        engine.run([0])
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
