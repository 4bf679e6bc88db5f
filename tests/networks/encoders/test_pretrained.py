"""Weights put into an encoder: the forms that files have, the first layer, and what does not fit, in one line."""

import logging
from pathlib import Path

import pytest
import torch

from pipeline.issues import InputError
from pipeline.networks import UNetPlusPlus, load_encoder_weights, make_encoder
from pipeline.networks.encoders import PlainEncoder, adapt_stem


def add_prefix(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def assert_loaded(encoder, state):
    own = encoder.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in own.items() if key in state)
    assert torch.equal(own["conv1.weight"], state["conv1.weight"])


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.safetensors"])
def test_file_types(name, state, write):
    assert_loaded(make_encoder("resnet18", depth=3, weights=write(state, name)), state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {"state_dict": state}},
        lambda state: {"network": state, "best": {"metric": 0.5}},
        lambda state: add_prefix("module.", state),
        lambda state: {"state_dict": add_prefix("module.encoder.", state)},
        lambda state: {
            **add_prefix("encoder.", {key: value for key, value in state.items() if not key.startswith("fc.")}),
            "decoder.blocks.x_0_0.conv1.0.weight": torch.zeros(2, 2, 3, 3),
            "segmentation_head.0.weight": torch.zeros(1, 16, 3, 3),
        },
        lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
        lambda state: {key: value.half() if key == "fc.weight" else value for key, value in state.items()},
    ],
    ids=["state_dict", "model", "checkpoint of ours", "DDP", "DDP encoder", "segmentation-models", "old", "half"],
)
@pytest.mark.parametrize("depth", [1, 3])
def test_forms_of_files(wrap, depth, state, write):
    encoder = make_encoder("resnet18", depth=depth)
    load_encoder_weights(encoder, write(wrap(state)))
    assert_loaded(encoder, state)


def test_a_network_of_ours_is_a_source(state, write):
    trained = UNetPlusPlus(2, 3, 1, encoder="resnet18", encoder_depth=3)
    trained.load_encoder_weights(write(state))
    assert_loaded(make_encoder("resnet18", depth=3, weights=write(trained.state_dict(), "model.pt")), state)


@pytest.mark.parametrize("channels", [1, 2, 9])
def test_first_layer_of_other_channels(channels, state, write):
    rgb = make_encoder("resnet18", depth=1, weights=write(state)).eval()
    other = make_encoder("resnet18", channels, depth=1, weights=write(state)).eval()
    grey = torch.randn(1, 1, 32, 32)
    expected = rgb(grey.expand(1, 3, 32, 32))[0]
    torch.testing.assert_close(other(grey.expand(1, channels, 32, 32))[0], expected, rtol=1e-4, atol=1e-5)


def test_stem_of_the_same_channels_is_left_alone():
    kernel = torch.randn(4, 3, 7, 7)
    assert adapt_stem(kernel, 3) is kernel


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("resnet34", "resnet18", r": 36 unexpected \(layer1.2.conv1.weight, .*\.\.\.\); is it from another network\?"),
        ("resnet18", "resnet34", r": 30 of 80 tensors missing \(layer1.2.conv1.weight, .*\.\.\.\); is it from an"),
        ("resnet18", "resnet50", r" another shape \(layer1.0.conv1.weight \(64, 64, 3, 3\), expected \(64, 64, "),
        ("efficientnet-b0", "resnet18", r"holds no weights of the encoder resnet18: 50 of 50 tensors missing"),
    ],
)
def test_weights_of_another_network(source, name, message, write):
    path = write(make_encoder(source, depth=3).state_dict())
    with pytest.raises(InputError, match=message) as caught:
        make_encoder(name, depth=3, weights=path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_plain_encoder_takes_no_resnet(state, write):
    message = r"holds no weights of the encoder plain: 20 of 20 tensors missing \(stages\.0\.0\.conv\.weight"
    with pytest.raises(InputError, match=message):
        load_encoder_weights(PlainEncoder(2, 3, [4, 8]), write(state))


@pytest.mark.parametrize("partial", [True, "true"])
def test_partial_weights_when_asked_for(partial, state, write, caplog):
    part = {key: value for key, value in state.items() if not key.startswith(("layer2", "fc"))}
    part["bn1.bias"], part["extra"] = torch.zeros(3), torch.zeros(1)
    path = write(part)
    with pytest.raises(InputError, match="set partial to true"):
        make_encoder("resnet18", depth=3, weights=path)
    with caplog.at_level(logging.WARNING):
        encoder = make_encoder("resnet18", depth=3, weights=path, partial=partial)
    torch.testing.assert_close(encoder.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    torch.testing.assert_close(encoder.bn1.bias, torch.zeros(64))
    (line,) = caplog.messages
    assert line.endswith(
        "in part: 25 of 50 tensors missing (layer2.0.conv1.weight, layer2.0.bn1.weight, layer2.0.bn1.bias ...), "
        "1 of another shape (bn1.bias (3,), expected (64,)), 1 unexpected (extra)"
    )


def test_nothing_fits_is_refused_even_in_part(write):
    with pytest.raises(InputError, match="holds no weights of the encoder resnet18: 50 of 50 tensors missing"):
        make_encoder("resnet18", depth=3, weights=write({"a.b": torch.zeros(1)}), partial=True)


def test_more_channels_in_the_file_than_rgb(state, write):
    path = write({**state, "conv1.weight": torch.zeros(64, 4, 7, 7)})
    message = r"1 of another shape \(conv1.weight \(64, 4, 7, 7\), expected \(64, 1, 7, 7\)"
    with pytest.raises(InputError, match=message):
        make_encoder("resnet18", 1, depth=2, weights=path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("weights.pth", b"", "is empty"),
        ("weights.pth", b"not a checkpoint", "is not a checkpoint: it starts with"),
        ("weights.pth", b"PK\x03\x04 broken", "is truncated"),
        ("weights.safetensors", b"", "is damaged or not in the format safetensors"),
        ("weights.safetensors", b"not a checkpoint", "is damaged or not in the format safetensors"),
    ],
)
def test_damaged_file(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        make_encoder("resnet18", depth=3, weights=tmp_path / name)
    assert "\n" not in str(caught.value)


def test_half_a_file(state, write):
    path = write(state)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="is truncated"):
        make_encoder("resnet18", depth=3, weights=path)


def test_code_in_a_file_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"conv1.weight": Payload()}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="holds more than tensors, an object of getattr"):
        make_encoder("resnet18", depth=3, weights=tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [torch.zeros(3), {"a": 1}, [1, 2], {"state_dict": {}}])
def test_no_state_dict(content, write):
    with pytest.raises(InputError, match="holds no state dict; expected tensors by name"):
        make_encoder("resnet18", depth=3, weights=write(content))


def test_no_such_file(tmp_path):
    message = rf"no weights file at {tmp_path}/no\.pth, and names of weights for the encoder resnet50 are: imagenet, im"
    with pytest.raises(InputError, match=message):
        make_encoder("resnet50", weights=tmp_path / "no.pth")
    with pytest.raises(InputError, match=r"no weights file at imagnet, and names .* resnet18 are: imagenet; give the"):
        make_encoder("resnet18", depth=3, weights="imagnet")


@pytest.mark.realdata
def test_real_imagenet_weights():
    path = Path(__file__).parents[4] / "shared/data/weights/resnet18_imagenet_conv1_to_layer3.pth"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    encoder = make_encoder("resnet18", depth=4, weights=path).train()
    assert len(encoder.folded_norms) == 15
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    for level in encoder(image):  # features of a trained network are neither silent nor exploding
        assert 0.05 < level.std() < 5
        assert (level > 0).float().mean() > 0.1
    with pytest.raises(InputError, match="25 of 100 tensors missing"):
        make_encoder("resnet18", depth=5, weights=path)
