"""Learning rates that differ between encoder and decoder."""

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNet

from pipeline.networks import UNetPlusPlus, parameter_groups


@pytest.fixture
def network():
    return UNetPlusPlus(2, 1, 1, channels=[4, 8, 12], encoder_frozen=1)


@pytest.mark.parametrize("wrap", [lambda network: network, torch.nn.DataParallel])
def test_groups(wrap, network):
    rest, encoder = parameter_groups(wrap(network), 0.01, 0.5)
    assert (rest["lr"], encoder["lr"]) == (0.01, 0.005)
    assert {id(p) for p in encoder["params"]} == {id(p) for p in network.encoder.parameters() if p.requires_grad}
    trained = [p for p in network.parameters() if p.requires_grad]
    assert sorted(map(id, rest["params"] + encoder["params"])) == sorted(map(id, trained))
    assert len(trained) < len(list(network.parameters()))


def test_in_a_config(network):
    parser = ConfigParser(
        {
            "network": network,
            "learning_rate": 0.002,
            "optimizer": {
                "_target_": "torch.optim.AdamW",
                "params": {
                    "_target_": "pipeline.networks.parameter_groups",
                    "network": "@network",
                    "learning_rate": "@learning_rate",
                    "encoder_factor": 0.25,
                },
                "lr": "@learning_rate",
                "fused": True,
            },
            "schedule": {
                "_target_": "monai.optimizers.WarmupCosineSchedule",
                "optimizer": "@optimizer",
                "warmup_steps": 0,
                "t_total": 2,
            },
        }
    )
    optimizer, schedule = parser.get_parsed_content("optimizer"), parser.get_parsed_content("schedule")
    assert [group["lr"] for group in optimizer.param_groups] == [0.002, 0.0005]
    network(torch.randn(2, 1, 8, 8)).mean().backward()
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.001, 0.00025])


def test_frozen_encoder_has_no_group():
    frozen = UNetPlusPlus(2, 1, 1, channels=[4, 8, 12], encoder_frozen=True)
    assert [group["lr"] for group in parameter_groups(frozen, 0.01)] == [0.01]


def test_network_without_encoder():
    network = BasicUNet(2, 1, 1, features=(4, 4, 4, 4, 4, 4))
    message = r'BasicUNet has no part called encoder, .* write "params": "\$@network.parameters\(\)"'
    with pytest.raises(ValueError, match=message):
        parameter_groups(network, 0.01)


def test_nothing_trains(network):
    with pytest.raises(ValueError, match="nothing of UNetPlusPlus trains"):
        parameter_groups(network.requires_grad_(False), 0.01)


@pytest.mark.parametrize(("rate", "factor"), [(0, 0.1), (0.1, 0), (0.1, -1), (float("nan"), 1)])
def test_wrong_numbers(rate, factor, network):
    with pytest.raises(ValueError, match="must be above 0"):
        parameter_groups(network, rate, factor)
