"""Load the weights of a network from a checkpoint, or say in one line what is wrong with the file."""

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.issues import InputError

_AGAIN = "copy or download it again"
_STATE_DICT = "save the weights alone, with torch.save(network.state_dict(), 'model.pt')"
# First bytes of files that are taken for checkpoints.
_KINDS = {
    b"version https://git-lfs": "is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
    b"<!doctype html": "is a web page: download the file itself",
    b"<html": "is a web page: download the file itself",
    b"{": "is a text file, not a checkpoint",
    b"\x89hdf": "is an HDF5 file, as Keras writes it, not one of torch.save",
    b"\x80": f"is a pickle but not one of torch.save: {_STATE_DICT}",
    b"\x1f\x8b": "is compressed with gzip: unpack it first",
}
# First bytes of a file of torch.save: a zip archive, or before torch 1.6 a pickled magic number.
_STARTS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9")


def list_checkpoints(given: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the paths in a setting that names one checkpoint or several.

    Args:
        given: a file, a list of files, or one text that separates them by commas.

    Example:
        >>> [path.name for path in list_checkpoints("fold0/a.pt, fold1/b.pt")]
        ['a.pt', 'b.pt']
    """
    if isinstance(given, (str, Path)):
        # A file name may contain a comma.
        given = [given] if Path(given).is_file() else str(given).split(",")
    return [Path(str(path).strip()) for path in given if str(path).strip()]


def read_weights(
    path: str | Path, network_key: str = "network", knob: str = "checkpoint"
) -> Mapping[str, torch.Tensor]:
    """Read the state dict of a network: a raw one, or an entry of a *last* checkpoint.

    Args:
        path: ``model.pt`` or ``last_epoch=N.pt``.
        network_key: the network's entry in a *last* checkpoint.
        knob: the option that names the file, for the message.

    Returns:
        The weights by name, on the CPU.

    Raises:
        InputError: the file is missing, is not a checkpoint of plain tensors, or holds no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"no checkpoint at {path}; name one with --{knob}, such as the model.pt in the output folder of a training"
        )
    try:
        content = read_plain(path)
    except ValueError as error:
        raise InputError(f"{path} {error}") from None
    if isinstance(content, Mapping) and isinstance(content.get(network_key), Mapping):
        content = content[network_key]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"{path} holds no state dict but {_describe_content(content)}; {_STATE_DICT}")
    return content


def load_weights(
    network: torch.nn.Module, path: str | Path, network_key: str = "network", knob: str = "checkpoint"
) -> None:
    """Load the weights of a checkpoint into a network; every key must fit.

    Args:
        network: gets the weights.
        path: see `read_weights`.
        network_key: see `read_weights`.
        knob: see `read_weights`.

    Raises:
        InputError: as `read_weights`, or the checkpoint has other keys or shapes than the network.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.pt"
        >>> torch.save({"weight": torch.ones(1, 1), "bias": torch.zeros(1)}, path)
        >>> network = torch.nn.Linear(1, 1)
        >>> load_weights(network, path)
        >>> network.weight.item()
        1.0
    """
    state = read_weights(path, network_key, knob)
    misfit = find_misfit(network.state_dict(), state)
    if misfit:
        raise InputError(
            f"{path} does not fit the network of this config: {misfit}; "
            f"name the checkpoint of this network with --{knob}, or set network_def to that of the checkpoint"
        )
    network.load_state_dict(state)


def find_misfit(wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> str:
    """Say what first differs between the weights of a network and those of a file; empty if they fit.

    Args:
        wanted: state dict of the network.
        given: state dict of the file.

    Example:
        >>> find_misfit({"weight": torch.zeros(2, 3)}, {"weight": torch.zeros(4, 3)})
        'weight is (4, 3), expected (2, 3)'
        >>> find_misfit({"weight": torch.zeros(2), "bias": torch.zeros(2)}, {"kernel": torch.zeros(2)})
        'weight is missing (and 2 more differences)'
    """
    found = []
    for name, value in wanted.items():
        if name not in given:
            found.append(f"{name} is missing")
        elif given[name].shape != value.shape:
            found.append(f"{name} is {tuple(given[name].shape)}, expected {tuple(value.shape)}")
    found += [f"{name} is not of this network" for name in given if name not in wanted]
    more = len(found) - 1
    return found[0] + (f" (and {more} more difference{'s' * (more > 1)})" if more else "") if found else ""


def read_plain(path: Path) -> Any:
    """Read a file of ``torch.save`` that holds tensors, numbers and texts; code in it does not run.

    The checksums are compared too: ``torch.load`` does not, and returns wrong weights where a bit has changed.

    Args:
        path: of the file.

    Returns:
        The content, on the CPU.

    Raises:
        ValueError: what is wrong with the file, without its name, such as "is empty".

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.pt"
        >>> path.touch()
        >>> read_plain(path)
        Traceback (most recent call last):
        ...
        ValueError: is empty (0 bytes): copy or download it again
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about files that it then refuses
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
        damaged = _find_damage(path)
    except MemoryError:
        raise
    except Exception as error:  # EOFError, RuntimeError, UnpicklingError, OSError, KeyError ... by the kind of damage
        raise ValueError(_explain(path, error)) from None
    if damaged:
        raise ValueError(f"is damaged: the checksum of {damaged} is wrong; {_AGAIN}")
    return content


def _find_damage(path: Path) -> str | None:
    """Return the first entry with a wrong checksum; a checksum of 0 means that torch was told to write none."""
    if not zipfile.is_zipfile(path):  # the format before torch 1.6 has no checksums
        return None
    with zipfile.ZipFile(path) as archive:
        if not any(entry.CRC for entry in archive.infolist()):
            return None
        return archive.testzip()


def _explain(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as stream:
            head = stream.read(64)
    except OSError as problem:
        return f"cannot be read: {(problem.strerror or str(problem)).lower()}"
    if not head:
        return f"is empty (0 bytes): {_AGAIN}"
    if head[8:10] == b'{"':
        return (
            "is in the format safetensors: convert it once with "
            f"torch.save(safetensors.torch.load_file('{path}'), 'model.pt')"
        )
    foreign = re.search(r"[Uu]nsupported (?:global: )?(?:GLOBAL|class) ([\w.]+)", str(error))
    if foreign:
        return f"holds more than tensors, an object of {foreign[1]}, which may run code: {_STATE_DICT}"
    if zipfile.is_zipfile(path):
        return _explain_archive(path)
    if head.startswith(_STARTS):
        return f"is truncated: its end is missing after {path.stat().st_size} bytes; {_AGAIN}"
    for start, text in _KINDS.items():
        if head.lower().lstrip().startswith(start):
            return text
    return f"is not a checkpoint: it starts with {head[:16]!r}; expected a file of torch.save"


def _explain_archive(path: Path) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any("/code/" in name for name in names) or any(name.endswith("constants.pkl") for name in names):
        return "is a TorchScript archive (model.ts): name the model.pt with the weights"
    if not any(name.endswith("/data.pkl") for name in names):
        return f"is a zip archive but not of torch.save (it holds {names[0] if names else 'nothing'}): unpack it first"
    return f"is damaged: {_AGAIN}"


def _describe_content(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"an object of the type {type(content).__name__}"
    keys = ", ".join(map(str, list(content)[:5]))
    return f"the entries {keys}" + (" ..." if len(content) > 5 else "") if keys else "nothing"
