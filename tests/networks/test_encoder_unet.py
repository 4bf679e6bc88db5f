"""U-Net on an encoder: MONAI's decoder with the encoders of this package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import FlexibleUNet

from pipeline.issues import InputError
from pipeline.networks import EncoderUNet, make_encoder


def test_decoder_and_head_are_those_of_flexible_unet() -> None:
    """The encoder alone differs, here only by its name."""
    ours = EncoderUNet(3, 2, "efficientnet-b0").eval()
    reference = FlexibleUNet(3, 2, "efficientnet-b0", norm="batch").eval()
    reference.decoder.load_state_dict(ours.decoder.state_dict())
    reference.segmentation_head.load_state_dict(ours.head.state_dict())
    image = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        levels = [image, *ours.encoder(image, 5)]
        expected = reference.segmentation_head(reference.decoder(levels, reference.skip_connect))
        assert [level.shape for level in reference.encoder(image)] == [level.shape for level in levels[1:]]
        torch.testing.assert_close(ours(image), expected)


def test_an_image_of_any_size_is_padded_at_its_end() -> None:
    network = EncoderUNet(1, 1, "efficientnet-lite0", encoder_depth=3).eval()
    image = torch.randn(1, 1, 37, 42, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        padded = torch.nn.functional.pad(image, (0, 6, 0, 3), mode="replicate")
        assert torch.equal(network(image), network(padded)[..., :37, :42])


def test_pretrained_weights_reach_the_encoder(tmp_path: Path) -> None:
    encoder = make_encoder("efficientnet-lite0", 3, 2)
    path = tmp_path / "weights.pt"
    torch.save(encoder.state_dict(), path)
    network = EncoderUNet(3, 1, "efficientnet-lite0", encoder_depth=2)
    network.load_encoder_weights(path)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], tensor), name


def test_frozen_stages_do_not_train() -> None:
    network = EncoderUNet(3, 1, "efficientnet-lite0", encoder_depth=2, encoder_frozen=True)
    assert not any(parameter.requires_grad for parameter in network.encoder.parameters())
    assert all(parameter.requires_grad for parameter in network.decoder.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_depth": 1}, "encoder_depth must be from 2 to 5, got 1"),
        ({"encoder_depth": 6}, "encoder_depth must be from 2 to 5, got 6"),
        ({"decoder_channels": (8, 4)}, "decoder_channels must have 3 entries of at least 1, .*, got .8, 4."),
        ({"decoder_channels": (8, 4, 0)}, "decoder_channels must have 3 entries of at least 1, .*, got .8, 4, 0."),
        ({"spatial_dims": 3}, "EncoderUNet has 2 spatial dimensions, got spatial_dims=3"),
        ({"out_channels": 0}, "in_channels and out_channels must be at least 1, got 3 and 0"),
        ({"encoder": "efficientnet-light0"}, "did you mean 'efficientnet-lite0'"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], message: str) -> None:
    arguments = {"in_channels": 3, "out_channels": 1, "encoder": "efficientnet-lite0", "encoder_depth": 3}
    with pytest.raises((ValueError, InputError), match=message):
        EncoderUNet(**(arguments | change))
