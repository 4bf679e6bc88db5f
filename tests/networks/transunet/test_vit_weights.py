import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from pipeline.handlers import EncoderWeightsLoader
from pipeline.issues import InputError
from pipeline.networks import parameter_groups
from pipeline.networks.transunet import TransUNet, load_vit_npz

Build = Callable[..., TransUNet]
Weights = dict[str, np.ndarray]


def to_google(network: TransUNet) -> Weights:
    """Write a network's encoder in Google's layout, tensor by tensor (without class token and classifier)."""
    ours = {name: value.numpy() for name, value in network.state_dict().items()}
    heads, depth = network.encoder.transformer.heads
    hidden = heads * depth
    result: Weights = {"Transformer/posembed_input/pos_embedding": ours["encoder.transformer.position_embedding"]}

    def copy_convolution(name: str, to: str) -> None:
        result[f"{to}/kernel"] = ours[f"{name}.weight"].transpose(2, 3, 1, 0)

    def copy_norm(name: str, to: str) -> None:
        result[f"{to}/scale"], result[f"{to}/bias"] = ours[f"{name}.weight"], ours[f"{name}.bias"]

    def copy_dense(name: str, to: str) -> None:
        result[f"{to}/kernel"], result[f"{to}/bias"] = ours[f"{name}.weight"].T, ours[f"{name}.bias"]

    copy_convolution("encoder.stem.conv", "conv_root")
    copy_norm("encoder.stem.gn", "gn_root")
    for block in ("block1", "block2", "block3"):
        for unit, module in getattr(network.encoder.stem, block).named_children():
            for number in (1, 2, 3):
                copy_convolution(f"encoder.stem.{block}.{unit}.conv{number}", f"{block}/{unit}/conv{number}")
                copy_norm(f"encoder.stem.{block}.{unit}.gn{number}", f"{block}/{unit}/gn{number}")
            if list(module.shortcut.parameters()):
                copy_convolution(f"encoder.stem.{block}.{unit}.shortcut.conv_proj", f"{block}/{unit}/conv_proj")
                copy_norm(f"encoder.stem.{block}.{unit}.shortcut.gn_proj", f"{block}/{unit}/gn_proj")
    copy_convolution("encoder.transformer.embedding", "embedding")
    result["embedding/bias"] = ours["encoder.transformer.embedding.bias"]
    for layer in range(len(network.encoder.transformer.layers)):
        name, to = f"encoder.transformer.layers.{layer}", f"Transformer/encoderblock_{layer}"
        copy_norm(f"{name}.norm1", f"{to}/LayerNorm_0")
        copy_norm(f"{name}.norm2", f"{to}/LayerNorm_2")
        for index, part in enumerate(("query", "key", "value")):
            rows = slice(index * hidden, (index + 1) * hidden)
            attention = f"{to}/MultiHeadDotProductAttention_1"
            result[f"{attention}/{part}/kernel"] = ours[f"{name}.attn.qkv.weight"][rows].T.reshape(hidden, heads, depth)
            result[f"{attention}/{part}/bias"] = ours[f"{name}.attn.qkv.bias"][rows].reshape(heads, depth)
        result[f"{attention}/out/kernel"] = ours[f"{name}.attn.out_proj.weight"].T.reshape(heads, depth, hidden)
        result[f"{attention}/out/bias"] = ours[f"{name}.attn.out_proj.bias"]
        copy_dense(f"{name}.mlp.linear1", f"{to}/MlpBlock_3/Dense_0")
        copy_dense(f"{name}.mlp.linear2", f"{to}/MlpBlock_3/Dense_1")
    copy_norm("encoder.transformer.norm", "Transformer/encoder_norm")
    return result


def test_round_trip_is_exact(build_small: Build, weights_path: Path, google_weights: Weights) -> None:
    network = build_small()
    load_vit_npz(network, weights_path)
    written = to_google(network)
    unused = {"cls", "head/kernel", "head/bias", "pre_logits/kernel", "pre_logits/bias"}
    assert written.keys() == google_weights.keys() - unused
    position = "Transformer/posembed_input/pos_embedding"
    google_weights[position] = google_weights[position][:, 1:]  # without the class token
    for name, value in written.items():
        np.testing.assert_array_equal(value, google_weights[name], err_msg=name)


def test_the_decoder_stays_and_all_else_changes(build_small: Build, weights_path: Path) -> None:
    network = build_small()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_encoder_weights(weights_path)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(("decoder.", "head.")), name


def test_attention_heads_as_in_the_file(build_small: Build, weights_path: Path, google_weights: Weights) -> None:
    """Query of head 1 from the file's own layout: einsum over (hidden, heads, depth)."""
    network = build_small()
    load_vit_npz(network, weights_path)
    attention = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1"
    tokens = torch.randn(1, 5, 24)
    kernel, bias = (torch.from_numpy(google_weights[f"{attention}/query/{kind}"]) for kind in ("kernel", "bias"))
    expected = torch.einsum("bth,hnd->bntd", tokens, kernel)[:, 1] + bias[1]
    layer = network.encoder.transformer.layers[1].attn
    torch.testing.assert_close(layer.input_rearrange(layer.qkv(tokens))[0][:, 1], expected)


def test_positions_of_another_grid(build_small: Build, weights_path: Path) -> None:
    """Loaded at one size and used at another, or loaded at the other: the same."""
    image = torch.randn(1, 3, 96, 64)
    small, large = build_small(), build_small(img_size=(96, 64))
    large.load_state_dict({**small.state_dict(), "encoder.transformer.position_embedding": torch.zeros(1, 24, 24)})
    for network in (small, large):
        network.load_encoder_weights(weights_path)
    torch.testing.assert_close(large(image), small(image))


def test_grey_images(build_small: Build, weights_path: Path, google_weights: Weights) -> None:
    network = build_small(in_channels=1)
    load_vit_npz(network, weights_path)
    expected = google_weights["conv_root/kernel"].sum(axis=2)
    np.testing.assert_allclose(
        network.encoder.stem.conv.weight.detach()[:, 0].permute(1, 2, 0), expected, rtol=1e-5, atol=1e-6
    )


def test_more_channels(build_small: Build, weights_path: Path, google_weights: Weights) -> None:
    network = build_small(in_channels=5)
    load_vit_npz(network, weights_path)
    kernel = network.encoder.stem.conv.weight.detach().permute(2, 3, 1, 0).numpy()
    expected = google_weights["conv_root/kernel"].sum(axis=2, keepdims=True).repeat(5, axis=2) / 5
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-6)


def test_old_files(build_small: Build, google_weights: Weights, tmp_path: Path) -> None:
    """Group norms of the shape (1, 1, 1, C), half precision, no class token."""
    for name, value in google_weights.items():
        if "/gn" in name or name.startswith("gn"):
            google_weights[name] = value.reshape(1, 1, 1, -1)
    position = "Transformer/posembed_input/pos_embedding"
    google_weights[position] = google_weights[position][:, 1:].astype(np.float16)
    np.savez_compressed(tmp_path / "old.npz", **google_weights)
    network = build_small()
    load_vit_npz(network, tmp_path / "old.npz")
    np.testing.assert_array_equal(network.encoder.stem.gn.weight.detach(), google_weights["gn_root/scale"].ravel())
    np.testing.assert_array_equal(
        network.encoder.transformer.position_embedding.detach(), google_weights[position].astype(np.float32)
    )


def fail_to_load(network: TransUNet, path: Path) -> str:
    """Return the message, after a look that it is one line and that the network is as it was."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_vit_npz(network, path)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_no_such_file(build_small: Build, tmp_path: Path) -> None:
    message = fail_to_load(build_small(), tmp_path / "nope.npz")
    assert message.startswith("no weights at")
    assert "download R50+ViT-B_16.npz from https://" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"num_layers": 3}, "16 tensors missing (Transformer/encoderblock_2/LayerNorm_0/scale, ...)"),
        ({"num_layers": 1}, "16 tensors unexpected (Transformer/encoderblock_1/LayerNorm_0/bias, ...)"),
        ({"block_units": (1, 1, 1)}, "9 tensors unexpected (block1/unit2/conv1/kernel, ...)"),
        (
            {"num_heads": 4},
            "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/out/kernel: [3, 8, 24] in the file, "
            "[4, 6, 24] in the network",
        ),
        ({"mlp_dim": 39}, "MlpBlock_3/Dense_0/kernel: [24, 40] in the file, [24, 39] in the network"),
        ({"width_factor": 1}, "conv_root/kernel: [7, 7, 3, 32] in the file, [7, 7, 3, 64] in the network"),
    ],
)
def test_file_of_another_network(
    arguments: dict[str, object], expected: str, build_small: Build, google_weights: Weights, tmp_path: Path
) -> None:
    np.savez(tmp_path / "other.npz", **dict(sorted(google_weights.items())))
    message = fail_to_load(build_small(**arguments), tmp_path / "other.npz")
    assert "does not fit this TransUNet: " in message
    assert expected in message
    assert message.endswith("or set partial to true to load what fits")


@pytest.mark.parametrize("shape", [(1, 8, 24), (1, 17, 25), (17, 24), (2, 17, 24), (1, 0, 24)])
def test_odd_positions(shape: tuple[int, ...], build_small: Build, google_weights: Weights, tmp_path: Path) -> None:
    name = "Transformer/posembed_input/pos_embedding"
    google_weights[name] = np.zeros(shape, np.float32)
    np.savez(tmp_path / "odd.npz", **google_weights)
    assert f"1 tensor of another shape ({name}: {list(shape)} in the file" in fail_to_load(
        build_small(), tmp_path / "odd.npz"
    )


def test_file_of_nothing_like_it(build_small: Build, tmp_path: Path) -> None:
    np.savez(tmp_path / "bit.npz", **{"resnet/root_block/standardized_conv2d/kernel": np.zeros((7, 7, 3, 64))})
    message = fail_to_load(build_small(), tmp_path / "bit.npz")
    assert message.endswith(
        "holds no tensor of a hybrid ViT, such as conv_root/kernel; expected Google's R50+ViT-B_16.npz"
    )


def test_nothing_fits(build_small: Build, google_weights: Weights, tmp_path: Path) -> None:
    """Not even a part can be loaded, so partial does not help."""
    kernels = {name: value[..., None] for name, value in google_weights.items() if "kernel" in name}
    np.savez(tmp_path / "wide.npz", **kernels)
    with pytest.raises(InputError, match=r"does not fit this TransUNet: .* tensors of another shape"):
        load_vit_npz(build_small(), tmp_path / "wide.npz", partial=True)


def test_damaged_files(build_small: Build, weights_path: Path, tmp_path: Path) -> None:
    whole = weights_path.read_bytes()
    middle = len(whole) // 2
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("<html>not found</html>")
    (tmp_path / "cut.npz").write_bytes(whole[:middle])
    (tmp_path / "flipped.npz").write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    for name in ("one.npy", "empty.npz", "text.npz", "cut.npz", "flipped.npz"):
        assert "is not an .npz file of plain numbers" in fail_to_load(build_small(), tmp_path / name), name


def test_code_in_a_file_is_not_run(build_small: Build, google_weights: Weights, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    google_weights["gn_root/scale"] = np.array([Payload()], dtype=object)
    np.savez(tmp_path / "evil.npz", **google_weights)
    assert "is not an .npz file of plain numbers" in fail_to_load(build_small(), tmp_path / "evil.npz")
    assert not (tmp_path / "ran").exists()


def test_tensor_of_another_type(build_small: Build, google_weights: Weights, tmp_path: Path) -> None:
    google_weights["gn_root/scale"] = np.full(32, "one")
    np.savez(tmp_path / "text.npz", **google_weights)
    assert "is not an .npz file of weights: gn_root/scale has the type <U3" in fail_to_load(
        build_small(), tmp_path / "text.npz"
    )


def test_partial_weights(
    build_small: Build, weights_path: Path, google_weights: Weights, caplog: pytest.LogCaptureFixture
) -> None:
    network = build_small(num_layers=3, mlp_dim=39)
    before = network.encoder.transformer.layers[0].mlp.linear1.weight.clone()
    with caplog.at_level(logging.INFO):
        load_vit_npz(network, weights_path, partial=True)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    n_all = len(list(network.encoder.parameters()))
    # of the third layer's 12 tensors none, of each of the other two layers all but three of the MLP's
    n_fitting = n_all - 12 - 2 * 3
    assert record.getMessage().startswith(f"{n_fitting} of the encoder's {n_all} tensors are from {weights_path}; ")
    assert "16 tensors missing" in record.getMessage()
    assert torch.equal(network.encoder.transformer.layers[0].mlp.linear1.weight, before)
    np.testing.assert_array_equal(
        network.encoder.transformer.norm.bias.detach(), google_weights["Transformer/encoder_norm/bias"]
    )


def test_what_was_loaded_is_logged(build_small: Build, weights_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        load_vit_npz(build_small(), weights_path)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().endswith(f"tensors are from {weights_path}")


def test_in_a_training(build_small: Build, weights_path: Path, google_weights: Weights) -> None:
    """By the handler, which all encoders share."""
    network = build_small()
    trainer = Engine(lambda engine, batch: None)
    EncoderWeightsLoader(network, weights_path).attach(trainer)
    trainer.run([0])
    norm = network.encoder.transformer.norm
    np.testing.assert_array_equal(norm.bias.detach(), google_weights["Transformer/encoder_norm/bias"])


def test_training_without_the_file(build_small: Build, tmp_path: Path) -> None:
    trainer = Engine(lambda engine, batch: None)
    EncoderWeightsLoader(build_small(), tmp_path / "nope.npz").attach(trainer)
    with pytest.raises(InputError, match=r"no weights at .*nope\.npz; download R50\+ViT-B_16\.npz"):
        trainer.run([0])


def test_encoder_with_a_learning_rate_of_its_own(build_small: Build) -> None:
    network = build_small()
    rest, encoder = parameter_groups(network, 0.01, 0.5)
    assert (rest["lr"], encoder["lr"]) == (0.01, 0.005)
    assert len(encoder["params"]) == len(list(network.encoder.parameters()))
