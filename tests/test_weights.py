"""Files that are taken for checkpoints: each is refused with what is wrong with it, and the hints work."""

import argparse
import contextlib
import gzip
import io
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.serialization import set_crc32_options

from pipeline.issues import InputError
from pipeline.weights import load_weights, read_plain, read_weights


def build_network() -> torch.nn.Module:
    return torch.nn.Conv2d(16, 16, 3)


STATE = build_network().state_dict()


class RunsCommands:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def save(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def script() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(build_network()), stream)
    return stream.getvalue()


def pack(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return stream.getvalue()


def savez() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, weight=np.zeros(3))
    return stream.getvalue()


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


WHOLE, OLD = save(STATE), save(STATE, _use_new_zipfile_serialization=False)
DAMAGED = {
    "empty": (b"", r"is empty \(0 bytes\): copy or download it again"),
    "half": (WHOLE[: len(WHOLE) // 2], r"is truncated: its end is missing after \d+ bytes; copy or download it again"),
    "nearly whole": (WHOLE[:-10], "is truncated: its end is missing"),
    "start only": (b"PK\x03\x04 broken", "is truncated: its end is missing after 11 bytes"),
    "half, old format": (OLD[:300], "is truncated: its end is missing"),
    "zeros at the end": (WHOLE[:2000] + bytes(len(WHOLE) - 2000), "is truncated: its end is missing"),
    "a bit": (flip(WHOLE, 5000), "is damaged: the checksum of .*data/0 is wrong; copy or download it again"),
}
OTHER_KINDS = {
    "text": (b"not a checkpoint", r"is not a checkpoint: it starts with b'not a checkpoint'; expected a file of torch"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "pointer of Git LFS.*`git lfs pull`"),
    "web page": (b"\n<!DOCTYPE html><html></html>", "is a web page: download the file itself"),
    "web page without type": (b"<HTML><body>sign in</body></HTML>", "is a web page: download the file itself"),
    "JSON": (b'{"message": "Not Found"}', "is a text file, not a checkpoint"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, as Keras writes it"),
    "gzip": (gzip.compress(WHOLE), "is compressed with gzip: unpack it first"),
    "pickle": (pickle.dumps({"a": 1}), "is a pickle but not one of torch.save: save the weights alone"),
    "safetensors": (safetensors.torch.save(STATE), "is in the format safetensors: convert it once with torch.save"),
    "TorchScript": (script(), r"is a TorchScript archive \(model.ts\): name the model.pt with the weights"),
    "bundle": (pack("b/configs/train.json"), r"zip archive but not of torch.save \(it holds b/configs/train.json\)"),
    "flat zip": (pack("a.txt"), r"is a zip archive but not of torch.save \(it holds a.txt\): unpack it first"),
    "numpy": (savez(), r"is a zip archive but not of torch.save \(it holds weight.npy\)"),
}
FOREIGN = {
    "network": (build_network(), "torch.nn.modules.conv.Conv2d"),
    "numpy number": ({"network": STATE, "dice": np.float64(0.5)}, "numpy._core.multiarray.scalar"),
    "arguments": ({"network": STATE, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
    "path": ({"network": STATE, "file": Path("a")}, "pathlib.PosixPath"),
    "command": ({"network": RunsCommands()}, "posix.system"),
}


def refuse(act: Callable[..., Any], path: Path, *before: Any) -> str:
    """Return the one line, which has nothing of torch's own text in it."""
    with pytest.raises(InputError) as caught:
        act(*before, path)
    line = str(caught.value)
    assert line.startswith(f"{path} ")
    assert not re.search(r"[Ww]eights.only|PyTorch|miniz|Unsupported|\n", line)
    return line


@pytest.mark.parametrize("kind", [*DAMAGED, *OTHER_KINDS])
def test_what_is_wrong_with_a_file(kind: str, tmp_path: Path) -> None:
    content, message = {**DAMAGED, **OTHER_KINDS}[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert re.search(message, refuse(read_weights, path))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", FOREIGN)
def test_an_object_that_may_run_code_is_named(
    kind: str, old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content, name = FOREIGN[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(save(content, _use_new_zipfile_serialization=not old))
    assert f"holds more than tensors, an object of {name}, which may run code: save the" in refuse(read_weights, path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3), "holds no state dict but an object of the type Tensor"),
        ([1, 2], "holds no state dict but an object of the type list"),
        ({"epoch": 3, "model": STATE}, "holds no state dict but the entries epoch, model;"),
        ({str(number): number for number in range(9)}, "holds no state dict but the entries 0, 1, 2, 3, 4 ..."),
    ],
)
def test_a_file_without_a_state_dict(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert message in refuse(read_weights, tmp_path / "model.pt")


def test_the_weights_alone_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Follow the hint."""
    monkeypatch.chdir(tmp_path)
    network, target = build_network(), build_network()
    Path("net.pt").write_bytes(save(network))
    code = re.search(r"with (torch\.save\(.*\))$", refuse(read_weights, Path("net.pt")))
    assert code is not None
    eval(code[1], {"torch": torch, "network": network})
    load_weights(target, "model.pt")
    torch.testing.assert_close(target.state_dict(), network.state_dict())


def test_safetensors_converted_as_the_hint_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    safetensors.torch.save_file(STATE, "a.pt")
    code = re.search(r"once with (.*)$", refuse(read_weights, Path("a.pt")))
    assert code is not None
    eval(code[1], {"torch": torch, "safetensors": safetensors})
    torch.testing.assert_close(dict(read_weights("model.pt")), dict(STATE))


@pytest.mark.parametrize("content", [WHOLE, OLD])
def test_whole_files_of_both_formats_load(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    torch.testing.assert_close(dict(read_weights(tmp_path / "model.pt")), dict(STATE))


def test_a_file_without_checksums_loads(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        stack.callback(set_crc32_options, True)
        set_crc32_options(False)
        torch.save(STATE, tmp_path / "model.pt")
    torch.testing.assert_close(dict(read_weights(tmp_path / "model.pt")), dict(STATE))


def test_a_bit_that_torch_does_not_notice(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(DAMAGED["a bit"][0])
    torch.load(path, weights_only=True)
    with pytest.raises(ValueError, match="is damaged"):
        read_plain(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(WHOLE)
    path.chmod(0)
    assert "cannot be read: permission denied" in refuse(read_weights, path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (torch.nn.Conv2d(16, 8, 3), r"weight is (8, 16, 3, 3), expected (16, 16, 3, 3) (and 1 more difference)"),
        (torch.nn.Conv2d(16, 16, 3, bias=False), "bias is missing;"),
        (torch.nn.BatchNorm2d(16), "weight is (16,), expected (16, 16, 3, 3) (and 3 more differences)"),
    ],
)
def test_the_first_difference_to_another_network(other: torch.nn.Module, message: str, tmp_path: Path) -> None:
    torch.save(other.state_dict(), tmp_path / "model.pt")
    line = refuse(load_weights, tmp_path / "model.pt", build_network())
    assert message in line
    assert line.endswith("with --checkpoint, or set network_def to that of the checkpoint")


def test_a_checkpoint_with_more_than_the_network(tmp_path: Path) -> None:
    torch.save({**STATE, "head.weight": torch.zeros(1)}, tmp_path / "model.pt")
    assert "head.weight is not of this network" in refuse(load_weights, tmp_path / "model.pt", build_network())


def test_a_copy_is_whole_again(tmp_path: Path) -> None:
    """Follow the hint of damaged files."""
    (tmp_path / "good.pt").write_bytes(WHOLE)
    path = tmp_path / "model.pt"
    path.write_bytes(DAMAGED["half"][0])
    assert refuse(read_weights, path).endswith("copy or download it again")
    shutil.copy(tmp_path / "good.pt", path)
    assert read_weights(path)
