"""EnsembleInferer: the mean of checkpoints, unchanged networks, missing checkpoints."""

from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SliceInferer

from pipeline.inferers import AutocastInferer, EnsembleInferer, FlipAverageInferer
from pipeline.issues import InputError


def make_network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, padding=1), torch.nn.Dropout(0.5), torch.nn.BatchNorm2d(3))


@pytest.fixture
def networks() -> list[torch.nn.Module]:
    return [make_network(seed).eval() for seed in (1, 2, 3)]


@pytest.fixture
def checkpoints(networks: list[torch.nn.Module], tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"fold{index}" / name for index, name in enumerate(["model.pt", "last_epoch=7.pt", "model.pt"])]
    for file, network in zip(files, networks, strict=True):
        file.parent.mkdir()
        state = network.state_dict()
        torch.save({"network": state, "trainer": {"epoch": 7}} if "last" in file.name else state, file)
    return files


IMAGE = torch.arange(2 * 5 * 6.0).reshape(1, 2, 5, 6) / 30


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_mean_of_probabilities(activation: str, networks, checkpoints) -> None:
    def activate(logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid() if activation == "sigmoid" else logits.softmax(1)

    with torch.no_grad():
        expected = torch.stack([activate(network(IMAGE)) for network in networks]).mean(0)
        found = EnsembleInferer(SimpleInferer(), make_network(0), checkpoints, activation)(IMAGE, None)
    torch.testing.assert_close(activate(found), expected)


def test_order_does_not_matter_and_one_checkpoint_is_the_plain_network(networks, checkpoints) -> None:
    with torch.no_grad():
        forth, back, alone = (
            EnsembleInferer(SimpleInferer(), make_network(0), files, "sigmoid")(IMAGE, None)
            for files in (checkpoints, checkpoints[::-1], checkpoints[1:2])
        )
        torch.testing.assert_close(forth, back)
        torch.testing.assert_close(alone, networks[1](IMAGE))


def test_the_given_network_is_left_alone_and_copies_are_made_once(checkpoints, monkeypatch) -> None:
    network = make_network(0).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inferer = EnsembleInferer(SimpleInferer(), network, checkpoints, "sigmoid")
    first = inferer(IMAGE, network)
    for file in checkpoints:
        file.unlink()
    assert torch.equal(inferer(IMAGE, network), first), "dropout or batch statistics are at work, or files read again"
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_around_a_whole_inferer(networks, checkpoints) -> None:
    volume = MetaTensor(torch.rand(1, 2, 8, 6, 3), meta={"filename_or_obj": "a"})
    whole = AutocastInferer(FlipAverageInferer(SliceInferer(roi_size=[-1, -1], spatial_dim=2), flips=[[1]]), amp=False)
    with torch.no_grad():
        expected = torch.stack([whole(volume, network).as_tensor().sigmoid() for network in networks]).mean(0)
        found = EnsembleInferer(whole, make_network(0), checkpoints, "sigmoid")(volume, networks[0])
    torch.testing.assert_close(found.as_tensor().sigmoid(), expected)
    assert found.meta["filename_or_obj"] == "a"


@pytest.mark.parametrize("text", ["{0},{1}", " {0} , {1},"])
def test_checkpoints_as_text(text: str, networks, checkpoints) -> None:
    inferer = EnsembleInferer(SimpleInferer(), make_network(0), text.format(*checkpoints), "sigmoid")
    assert inferer.checkpoints == checkpoints[:2]


def test_parallel_networks_are_unwrapped(networks, checkpoints) -> None:
    wrapped = torch.nn.DataParallel(make_network(0))
    with torch.no_grad():
        found = EnsembleInferer(SimpleInferer(), wrapped, checkpoints[:1], "sigmoid")(IMAGE, None)
        torch.testing.assert_close(found, networks[0](IMAGE))


def test_a_missing_checkpoint(checkpoints, tmp_path: Path) -> None:
    inferer = EnsembleInferer(SimpleInferer(), make_network(0), [checkpoints[0], tmp_path / "nope.pt"], "sigmoid")
    with pytest.raises(InputError, match=r"no checkpoint at .*nope\.pt; name one with --checkpoints"):
        inferer(IMAGE, None)


def test_a_checkpoint_of_another_network(checkpoints) -> None:
    inferer = EnsembleInferer(SimpleInferer(), torch.nn.Conv2d(2, 5, 1), checkpoints, "sigmoid")
    with pytest.raises(InputError, match=r"fold0/model\.pt does not fit the network of this config: .*more") as caught:
        inferer(IMAGE, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("checkpoints", [[], "", " , "])
def test_no_checkpoints(checkpoints) -> None:
    with pytest.raises(InputError, match="--checkpoints is empty"):
        EnsembleInferer(SimpleInferer(), make_network(0), checkpoints, "sigmoid")


@pytest.mark.parametrize("activation", [None, "tanh"])
def test_other_activations(activation) -> None:
    with pytest.raises(ValueError, match="activation must be 'sigmoid'"):
        EnsembleInferer(SimpleInferer(), make_network(0), ["a.pt"], activation)
