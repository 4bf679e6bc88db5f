"""MONAI's EfficientNet through the interface of the encoders."""

import pytest
import torch
from monai.networks.nets import EfficientNetBNFeatures

from pipeline.networks import UNetPlusPlus, make_encoder


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b2"])
def test_equals_monais(name):
    theirs = EfficientNetBNFeatures(name, pretrained=False).eval()
    ours = make_encoder(name, depth=3).eval()
    result = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert result.missing_keys == []
    assert all(key.startswith(ours.foreign_keys) for key in result.unexpected_keys)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for one, other in zip(ours(image), theirs(image)[:3], strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("efficientnet-b0", (16, 24, 40, 112, 320)), ("efficientnet-b3", (24, 32, 48, 136, 384))],
)
def test_pyramid(name, channels):
    """MONAI pads for its native size, no multiple of 32 for b3; multiples of 32 come out exact all the same."""
    with torch.device("meta"):
        encoder = make_encoder(name, in_channels=1)
    assert encoder.channels == channels
    for side in (32, 96, 160):
        sizes = [(1, channels[k], side >> k + 1, 64 >> k + 1) for k in range(5)]
        assert [level.shape for level in encoder(torch.zeros(1, 1, side, 64, device="meta"))] == sizes


def test_it_trains_freezes_and_exports():
    network = UNetPlusPlus(2, 1, 1, encoder="efficientnet-b0", encoder_depth=2, encoder_frozen=1)
    image = torch.randn(2, 1, 20, 24)
    network(image).mean().backward()
    idle = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    frozen = {name.split(".")[1] for name, p in network.named_parameters() if not p.requires_grad}
    assert idle == []
    assert frozen == {"_conv_stem", "_bn0", "_blocks"}
    assert all(p.requires_grad for p in network.encoder._blocks[1].parameters())
    scripted = torch.jit.script(network.eval())
    torch.testing.assert_close(scripted(image), network(image))
