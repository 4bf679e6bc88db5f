"""Weights that are fetched: by name and from Hugging Face, with their checksum, and without a network."""

import hashlib
import urllib.request
from urllib.error import URLError

import pytest
import torch

from pipeline.issues import InputError
from pipeline.networks import make_encoder
from pipeline.networks.encoders import weight_sources


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Let torch.hub keep its files in a folder of the test."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def server(tmp_path, monkeypatch, state, write):
    """Put a file in place of torchvision's server; return the folder and the file's checksum."""
    path = write(state)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    folder = tmp_path / "server"
    folder.mkdir()
    target = path.rename(folder / f"resnet18-{sha256[:8]}.pth")
    monkeypatch.setitem(weight_sources.URLS, "resnet18", {"imagenet": target.as_uri()})
    return target


def test_addresses_are_torchvisions():
    assert weight_sources.URLS["resnet18"]["imagenet"] == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    names = [url.rsplit("/", 1)[1] for urls in weight_sources.URLS.values() for url in urls.values()]
    assert names == [
        "resnet18-f37072fd.pth",
        "resnet34-b627a593.pth",
        "resnet50-11ad3fa6.pth",
        "resnet50-0676ba61.pth",
    ]


@pytest.mark.parametrize("name", ["imagenet", "ImageNet"])
def test_by_name(name, hub, server, state):
    encoder = make_encoder("resnet18", depth=1, weights=name)
    torch.testing.assert_close(encoder.conv1.weight, state["conv1.weight"])
    assert [path.name for path in hub.iterdir()] == [server.name]


def test_the_second_time_no_network_is_needed(hub, server):
    make_encoder("resnet18", depth=1, weights="imagenet")
    server.unlink()
    make_encoder("resnet18", depth=1, weights="imagenet")


def test_damage_on_the_way_is_noticed(hub, server):
    server.write_bytes(server.read_bytes()[:-1] + b"x")
    with pytest.raises(
        InputError, match=r"could not fetch file:.*\(invalid hash value .*\); without network, download"
    ):
        make_encoder("resnet18", depth=1, weights="imagenet")
    assert list(hub.iterdir()) == []


def test_damage_in_the_cache_is_noticed(hub, server):
    make_encoder("resnet18", depth=1, weights="imagenet")
    (hub / server.name).write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"has the SHA-256 .*, expected .*; delete it to fetch it again"):
        make_encoder("resnet18", depth=1, weights="imagenet")


@pytest.mark.parametrize("name", ["resnet34", "efficientnet-b0"])
def test_without_network(name, hub, monkeypatch):
    def refuse(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    with pytest.raises(InputError) as caught:
        make_encoder(name, depth=1, weights="imagenet")
    line = str(caught.value)
    assert line.startswith("could not fetch https://")
    assert "Name or service not known" in line
    assert "give the file: --encoder_weights /path/to/" in line
    assert f"{name}-" in line
    assert "\n" not in line


def test_efficientnet_gets_monais_weights(monkeypatch):
    from monai.networks.nets import efficientnet

    source = make_encoder("efficientnet-b0").state_dict()
    torch.nn.init.constant_(source["_blocks.0.0._depthwise_conv.weight"], 0.5)

    def load(network, model_name, progress, adv_prop):
        network.load_state_dict(source, strict=False)

    monkeypatch.setattr(efficientnet, "_load_state_dict", load)
    encoder = make_encoder("efficientnet-b0", in_channels=1, depth=2, weights="imagenet")
    assert (encoder._blocks[0][0]._depthwise_conv.weight == 0.5).all()
    torch.testing.assert_close(encoder._conv_stem.weight[:, 0], source["_conv_stem.weight"].sum(dim=1))


def test_efficientnet_without_imagenet_weights():
    with pytest.raises(InputError, match="MONAI has no ImageNet weights of efficientnet-b8"):
        weight_sources.read_weights("imagenet", "efficientnet-b8")


def test_from_hugging_face(hub, server, state, write, monkeypatch):
    monkeypatch.setattr(weight_sources, "HUGGING_FACE", server.parent.as_uri())
    path = server.parent / "timm" / "resnet18.a1_in1k" / "resolve" / "main" / "model.safetensors"
    path.parent.mkdir(parents=True)
    write({key: value.contiguous() for key, value in state.items()}, "model.safetensors").rename(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    encoder = make_encoder("resnet18", depth=1, weights=f"hf://timm/resnet18.a1_in1k/model.safetensors@{sha256}")
    torch.testing.assert_close(encoder.conv1.weight, state["conv1.weight"])
    assert [path.name for path in hub.iterdir()] == [f"{sha256[:16]}-model.safetensors"]
    with pytest.raises(InputError, match="invalid hash value"):
        make_encoder("resnet18", depth=1, weights="hf://timm/resnet18.a1_in1k/model.safetensors@" + "0" * 64)


@pytest.mark.parametrize(
    "text", ["hf://timm/resnet18/model.pth", "hf://timm@12345678", "hf://a/b/c@1234567", "hf://a/b/c@"]
)
def test_from_hugging_face_a_checksum_is_needed(text):
    with pytest.raises(InputError, match="expected hf://owner/repository/file@sha256 with at least 8 digits"):
        make_encoder("resnet18", depth=1, weights=text)
