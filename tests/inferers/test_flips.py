from collections.abc import Callable

import pytest
import torch
from monai.inferers import SimpleInferer, SliceInferer

from pipeline.inferers import FlipAverageInferer


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv2d(2, 1, kernel_size=3, padding=1)


def test_mean_over_copies_flipped_back(network: torch.nn.Module) -> None:
    image = torch.arange(2 * 5 * 6.0).reshape(1, 2, 5, 6)
    with torch.no_grad():
        expected = network(image)
        for dims in ((2,), (2, 3)):
            expected = expected + network(image.flip(dims)).flip(dims)
        found = FlipAverageInferer(SimpleInferer(), flips=[[0], [0, 1]])(image, network)
    torch.testing.assert_close(found, expected / 3)


def test_without_flips_it_is_the_inferer_itself(network: torch.nn.Module) -> None:
    image = torch.rand(2, 2, 5, 6)
    torch.testing.assert_close(FlipAverageInferer(SimpleInferer())(image, network), network(image))


def test_result_does_not_depend_on_the_image_being_mirrored(network: torch.nn.Module) -> None:
    volume = torch.rand(1, 2, 6, 8, 3)
    inferer = FlipAverageInferer(SliceInferer(roi_size=[-1, -1], spatial_dim=2), flips=[[1]])
    with torch.no_grad():
        torch.testing.assert_close(inferer(volume.flip(3), network).flip(3), inferer(volume, network))


@pytest.mark.parametrize("flips", [[[]], [[-1]], [[0], [1, -2]]])
def test_axes_must_be_named(flips: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="spatial axes from 0"):
        FlipAverageInferer(SimpleInferer(), flips=flips)


@pytest.mark.parametrize(
    ("flips", "said"),
    [
        ([[0, 0]], r"an entry of flips names an axis twice, got \[\[0, 0\]\]"),
        ([[0], [2]], "flips names axis 2, but images have the spatial axes 0 to 1"),
    ],
)
def test_axes_must_be_those_of_the_images(flips: list[list[int]], said: str, network: torch.nn.Module) -> None:
    with pytest.raises(ValueError, match=said):
        FlipAverageInferer(SimpleInferer(), flips=flips)(torch.zeros(1, 2, 4, 4), network)


def test_every_turn_with_every_flip(network: torch.nn.Module) -> None:
    image = torch.arange(2 * 5 * 6.0).reshape(1, 2, 5, 6)
    with torch.no_grad():
        parts = [
            torch.rot90(network(torch.rot90(image.flip(flip), k, (2, 3))), -k, (2, 3)).flip(flip)
            for k in (0, 1, 3)
            for flip in ((), (2,))
        ]
        found = FlipAverageInferer(SimpleInferer(), flips=[[0]], rotations=[1, 3])(image, network)
    torch.testing.assert_close(found, torch.stack(parts).mean(0))


@pytest.mark.parametrize("shape", [(1, 2, 5, 6), (1, 2, 4, 6, 3)])
def test_the_symmetries_of_a_square_commute_with_the_mean(network: torch.nn.Module, shape: tuple[int, ...]) -> None:
    image = torch.rand(shape)
    plain = SimpleInferer() if len(shape) == 4 else SliceInferer(roi_size=[-1, -1], spatial_dim=2)
    inferer = FlipAverageInferer(plain, flips=[[1]], rotations=[1, 2, 3])
    assert len(inferer.copies) == 8
    with torch.no_grad():
        expected = inferer(image, network)
        for k in range(4):
            for flip in ((), (2,), (3,), (2, 3)):
                turned = torch.rot90(image, k, (2, 3)).flip(flip)
                back = torch.rot90(inferer(turned, network).flip(flip), -k, (2, 3))
                torch.testing.assert_close(back, expected)


@pytest.mark.parametrize(("activation", "function"), [("sigmoid", torch.sigmoid), ("softmax", lambda x: x.softmax(1))])
def test_mean_of_probabilities(activation: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(2, 3, kernel_size=3, padding=1)
    image = torch.rand(1, 2, 5, 6) * 9
    with torch.no_grad():
        expected = (function(network(image)) + function(network(image.flip(3))).flip(3)) / 2
        found = FlipAverageInferer(SimpleInferer(), flips=[[1]], activation=activation)(image, network)
    torch.testing.assert_close(function(found), expected)


@pytest.mark.parametrize("rotations", [[0], [4], [-1], [1, 90]])
def test_turns_are_quarters(rotations: list[int]) -> None:
    with pytest.raises(ValueError, match=r"quarter turns, 1 to 3, got \["):
        FlipAverageInferer(SimpleInferer(), rotations=rotations)


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match="activation must be"):
        FlipAverageInferer(SimpleInferer(), activation="relu")
