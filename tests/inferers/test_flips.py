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
