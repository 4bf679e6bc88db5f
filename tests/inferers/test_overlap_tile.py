"""OverlapTileInferer: equal to one forward pass of the whole mirrored image, so without seams."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor, decollate_batch
from monai.inferers import SlidingWindowInferer

from pipeline.inferers import AutocastInferer, FlipAverageInferer, OverlapTileInferer
from pipeline.networks import UNet2015


def make_network(channels=(2, 3, 4), **arguments):
    torch.manual_seed(0)
    return UNet2015(channels=channels, **arguments).eval()


def one_forward_pass(network, image):
    """The whole image with numpy's mirrored borders, enlarged at the end to a size that fits, then cut."""
    sizes = image.shape[2:]
    inputs = [network.next_input_size(n) for n in sizes]
    margins = [(n - network.valid_output_size(n)) // 2 for n in inputs]
    borders = [(m, i - m - n) for i, m, n in zip(inputs, margins, sizes, strict=True)]
    mirrored = np.pad(image.numpy(), [(0, 0), (0, 0), *borders], mode="reflect")
    with torch.no_grad():
        return network(torch.as_tensor(mirrored))[(slice(None), slice(None), *map(slice, sizes))]


class CropCentre:
    """A network that only loses its margin, and notes what it was given."""

    def __init__(self, margin):
        self.margin = margin
        self.shapes = []

    def __call__(self, tiles):
        self.shapes.append(tuple(tiles.shape))
        inner = slice(self.margin, -self.margin or None)
        return tiles[(slice(None), slice(None), *[inner] * (tiles.ndim - 2))]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([(44, 60), (48, 48), 52]), st.integers(1, 5))
def test_equals_one_forward_pass(height, width, tile, sw_batch_size):
    """Images smaller than the margin of 20 pixels, than a tile, and larger than several tiles."""
    network = make_network(in_channels=2, out_channels=3)
    image = torch.rand(2, 2, height, width, generator=torch.Generator().manual_seed(height * 100 + width))
    sizes = [tile] if isinstance(tile, int) else list(tile)
    output = [network.valid_output_size(n) for n in sizes]
    inferer = OverlapTileInferer(tile, output, sw_batch_size, pooling_stride=4)
    with torch.no_grad():
        result = inferer(image, network)
    torch.testing.assert_close(result, one_forward_pass(network, image), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", [None, "batch"])
def test_the_papers_depth_and_a_real_frames_shape(norm):
    """Four poolings, several tiles along both axes."""
    network = make_network((4, 4, 4, 4, 4), norm=norm)
    image = torch.rand(1, 1, 130, 174)  # a quarter of 520 x 696
    tile = [network.next_input_size(50), network.next_input_size(70)]
    inferer = OverlapTileInferer(tile, [network.valid_output_size(n) for n in tile], sw_batch_size=4)
    with torch.no_grad():
        result = inferer(image, network)
    torch.testing.assert_close(result, one_forward_pass(network, image), rtol=1e-5, atol=1e-5)
    assert result.std() > 0.01


def test_steps_that_are_no_multiple_of_the_stride_show_seams():
    """The reason for pooling_stride: a step of 18 pixels lets the poolings of two tiles fall on other pixels."""
    network = make_network()
    image = torch.rand(1, 1, 40, 40)
    with torch.no_grad():
        expected = one_forward_pass(network, image)
        right, wrong = (OverlapTileInferer(60, 20, pooling_stride=stride)(image, network) for stride in (4, 3))
    torch.testing.assert_close(right, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(wrong[..., :18, :18], expected[..., :18, :18], rtol=1e-5, atol=1e-5)
    difference = (wrong - expected).abs()[..., 18:36, 18:36]
    assert difference.mean() > 0.1 * expected.std() > 0


def test_volumes_equal_one_forward_pass():
    network = make_network((2, 2), spatial_dims=3, out_channels=2)
    image = torch.rand(1, 1, 11, 7, 3)
    inferer = OverlapTileInferer(22, 6, sw_batch_size=3, pooling_stride=2)
    with torch.no_grad():
        torch.testing.assert_close(inferer(image, network), one_forward_pass(network, image), rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 12), st.integers(4, 20), st.integers(1, 4), st.integers(1, 5)
)
def test_every_pixel_comes_back_to_its_place(height, width, margin, n_output, stride, sw_batch_size):
    image = torch.arange(2.0 * height * width).reshape(2, 1, height, width)
    network = CropCentre(margin)
    inferer = OverlapTileInferer(n_output + 2 * margin, n_output, sw_batch_size, stride)
    assert torch.equal(inferer(image, network), image)
    step = n_output // stride * stride
    n_tiles = 2 * np.prod([1 + -(-max(n - n_output, 0) // step) for n in (height, width)])
    assert sum(shape[0] for shape in network.shapes) == n_tiles
    assert all(shape[0] == sw_batch_size for shape in network.shapes[:-1])


@pytest.mark.parametrize(("n", "margin"), [(1, 3), (2, 5), (3, 2), (4, 9), (7, 7)])
def test_borders_are_mirrored_as_often_as_it_takes(n, margin):
    seen = []
    image = torch.arange(float(n)).reshape(1, 1, 1, n)
    inferer = OverlapTileInferer([8, 8 + 2 * margin], [8, 8], pooling_stride=1)
    inferer(image, lambda tiles: seen.append(tiles) or tiles[..., margin : margin + 8])
    mirrored = np.pad(np.arange(float(n)), (margin, margin + 8 - n), mode="reflect")
    assert seen[0][0, 0, 0].tolist() == mirrored.tolist()


def test_a_tile_of_the_image_itself_is_one_call():
    network = CropCentre(2)
    OverlapTileInferer([24, 28], [20, 24])(torch.rand(1, 3, 20, 24), network)
    assert network.shapes == [(1, 3, 24, 28)]


def test_number_of_tiles_of_the_paper():
    """A frame of 520 x 696 pixels in tiles of 572: two along each axis, at 0 and 384."""
    network = CropCentre(92)
    OverlapTileInferer(572, 388, sw_batch_size=3)(torch.rand(1, 1, 520, 696), network)
    assert network.shapes == [(3, 1, 572, 572), (1, 1, 572, 572)]


def test_inside_the_wrappers():
    network = make_network()
    image = torch.rand(1, 1, 21, 30)
    tiles = OverlapTileInferer(52, 12, pooling_stride=4)
    with torch.no_grad():
        torch.testing.assert_close(AutocastInferer(tiles, amp=False)(image, network), tiles(image, network))
        both = FlipAverageInferer(tiles, flips=[[1]])(image, network)
        flipped = tiles(image.flip(3), network).flip(3)
        torch.testing.assert_close(both, (tiles(image, network) + flipped) / 2)
        mixed = AutocastInferer(tiles, amp=True)(image, network)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, tiles(image, network), rtol=0.1, atol=0.1)


def test_meta_data_is_kept():
    image = MetaTensor(torch.rand(1, 1, 9, 9), meta={"filename_or_obj": ["a"]})
    image.is_batch = True
    result = OverlapTileInferer(12, 8, pooling_stride=4)(image, CropCentre(2))
    assert isinstance(result, MetaTensor)
    assert decollate_batch(result)[0].meta["filename_or_obj"] == "a"
    assert type(OverlapTileInferer(12, 8, pooling_stride=4)(torch.rand(1, 1, 9, 9), CropCentre(2))) is torch.Tensor


def test_gradients_flow():
    image = torch.rand(1, 1, 10, 10, requires_grad=True)
    OverlapTileInferer(12, 8, pooling_stride=8)(image, CropCentre(2)).sum().backward()
    assert torch.equal(image.grad, torch.ones_like(image))


def test_further_arguments_reach_the_network():
    inferer = OverlapTileInferer(8, 8, pooling_stride=8)
    result = inferer(torch.ones(1, 1, 8, 8), lambda tiles, factor, plus: tiles * factor + plus, 3, plus=1)
    assert bool((result == 4).all())


def test_monais_sliding_window_takes_the_margin_for_a_zoom():
    """Why this class exists; when this fails, MONAI can do it and the class may go."""
    image = torch.rand(1, 1, 32, 32)
    result = SlidingWindowInferer(roi_size=20, overlap=0)(image, CropCentre(2))
    assert result.shape != image.shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 573, "output_size": 388}, "must exceed output_size by an even number, .* got 573 and 388"),
        ({"input_size": 300, "output_size": 388}, "must exceed output_size by an even number, .* got 300 and 388"),
        ({"input_size": 188, "output_size": 4}, "at least the pooling_stride of 16, got 4; take a larger tile"),
        ({"input_size": [572, 572], "output_size": [388, 388, 388]}, "the same number of axes"),
        ({"input_size": 572, "output_size": 388, "sw_batch_size": 0}, "sw_batch_size and pooling_stride must be"),
        ({"input_size": 572, "output_size": 388, "pooling_stride": 0}, "sw_batch_size and pooling_stride must be"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        OverlapTileInferer(**arguments)


@pytest.mark.parametrize("shape", [(1, 1, 20), (1, 1, 20, 20, 20), (1, 1, 0, 20), (20, 20)])
def test_inputs_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected inputs \(B, C, \*spatial\) that fit tiles of \[20, 20\], got"):
        OverlapTileInferer([20, 20], 16)(torch.zeros(shape), CropCentre(2))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            CropCentre(3),
            r"the network returned \(1, 1, 14, 14\) for 1 tiles of \[20, 20\], expected \(1, classes, 16, 16\)",
        ),
        (lambda tiles: tiles[0], "set output_size to the network.s output size"),
        (lambda tiles: [tiles], "expected one tensor from the network, got a list"),
        (make_network((2, 3)), r"expected \(1, classes, 16, 16\)"),
    ],
)
def test_outputs_of_another_shape_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        OverlapTileInferer(20, 16)(torch.zeros(1, 1, 20, 20), network)
