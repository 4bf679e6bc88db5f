"""What does not train: stages, BatchNorm, and BatchNorm that was folded into the convolutions."""

import copy

import pytest
import torch

from pipeline.issues import InputError
from pipeline.networks import UNetPlusPlus, make_encoder


def fold(state, eps=1e-5):
    """Return the weights with mean and variance of every BatchNorm worked into its scale and shift."""
    state = dict(state)
    for mean in [key for key in state if key.endswith("running_mean")]:
        norm = mean.removesuffix("running_mean")
        head, number = norm[:-1].rsplit("bn", 1) if "bn" in norm else (norm[:-3], None)
        convolution = f"{head}conv{number}.weight" if number else f"{head}.0.weight"
        scale = state[f"{norm}weight"] / (state[f"{norm}running_var"] + eps).sqrt()
        state[convolution] = state[convolution] * scale[:, None, None, None]
        state[f"{norm}bias"] = state[f"{norm}bias"] - state[mean] * scale
        state[f"{norm}weight"] = torch.ones_like(scale)
        state[mean] = torch.zeros_like(scale)
        state[f"{norm}running_var"] = torch.full_like(scale, 1 - eps)
    return state


def train_a_step(encoder):
    """Return the names of what one step of training changes."""
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=0.1)
    encoder.train()
    sum(level.square().mean() for level in encoder(torch.randn(2, encoder.in_channels, 32, 32))).backward()
    optimizer.step()
    return {key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key])}


def is_norm(key):
    return "bn" in key or "downsample.1" in key


def test_all_of_it_trains():
    encoder = make_encoder("resnet18", depth=3)
    assert train_a_step(encoder) == set(encoder.state_dict())


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [(0, set()), (1, {"conv1", "bn1"}), ("2", {"conv1", "bn1", "layer1"})],
)
def test_frozen_stages(frozen, expected):
    encoder = make_encoder("resnet18", depth=3, frozen=frozen)
    changed = {key.split(".")[0] for key in train_a_step(encoder)}
    assert changed == {"conv1", "bn1", "layer1", "layer2"} - expected


@pytest.mark.parametrize("frozen", [True, "true", 3])
def test_all_stages_frozen(frozen):
    encoder = make_encoder("resnet18", depth=3, frozen=frozen)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(layer.training for stage in encoder.list_stages() for module in stage for layer in module.modules())


@pytest.mark.parametrize("norm", [True, "true"])
def test_frozen_norm(norm):
    encoder = make_encoder("resnet18", depth=3, frozen_norm=norm)
    assert train_a_step(encoder) == {key for key in encoder.state_dict() if not is_norm(key)}
    assert encoder.layer1.training
    assert not encoder.bn1.training


def test_frozen_layers_of_a_network_stay_so_in_training():
    network = UNetPlusPlus(2, 1, 1, channels=[4, 8, 12], encoder_frozen=1, encoder_frozen_norm=True)
    network.eval().train()
    norms = [layer.training for layer in network.encoder.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert norms == [False] * 6
    assert not network.encoder.stages[0].training
    assert network.encoder.stages[1].training
    assert all(layer.training for layer in network.nodes.modules())


@pytest.mark.parametrize("frozen", [6, -1])
def test_wrong_number_of_stages(frozen):
    with pytest.raises(ValueError, match=f"frozen must be true, false or a number of stages from 0 to 5, got {frozen}"):
        make_encoder("resnet18", frozen=frozen)


@pytest.mark.parametrize("arguments", [{"frozen": "some"}, {"frozen_norm": "maybe"}])
def test_wrong_switch(arguments):
    with pytest.raises(InputError, match="must be true or false"):
        make_encoder("resnet18", depth=1, **arguments)


def test_folded_norm_keeps_its_statistics(state, write):
    plain = make_encoder("resnet18", depth=3, weights=write(state)).eval()
    encoder = make_encoder("resnet18", depth=3, weights=write(fold(state), "folded.pth"))
    image = torch.randn(1, 3, 32, 32)
    for one, other in zip(encoder.eval()(image), plain(image), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert len(encoder.folded_norms) == 10
    changed = train_a_step(encoder)
    assert changed == {name for name, _ in encoder.named_parameters()}


def test_folded_norm_is_recognised_in_a_checkpoint(state, write):
    trained = UNetPlusPlus(2, 3, 1, encoder="resnet18", encoder_depth=3)
    trained.load_encoder_weights(write(fold(state)))
    train_a_step(trained.encoder)
    resumed = UNetPlusPlus(2, 3, 1, encoder="resnet18", encoder_depth=3)
    assert resumed.encoder.folded_norms == ()
    resumed.load_state_dict(trained.state_dict())
    for network in (resumed, copy.deepcopy(resumed)):
        network.train()
        assert len(network.encoder.folded_norms) == 10
        assert not network.encoder.bn1.training
    resumed.load_state_dict(UNetPlusPlus(2, 3, 1, encoder="resnet18", encoder_depth=3).state_dict())
    assert resumed.encoder.bn1.training


def test_only_what_is_folded_keeps_its_statistics(state, write):
    shallow = {key: value for key, value in fold(state).items() if not key.startswith(("layer3", "layer4"))}
    encoder = make_encoder("resnet18", depth=4, weights=write(shallow), partial=True).train()
    assert not encoder.layer2[0].bn1.training
    assert encoder.layer3[0].bn1.training
