"""Load weights as torch does for ``weights_only``, in a process of its own with limits on time, memory and files."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from pipeline.bundle.audit.finding import Finding, make_finding

SECONDS = 120
_BLOCK = 1 << 20
_MEMORY = 24 << 30  # torch with CUDA reserves most of it without using it
# The process may not write files. It prints what differs.
_START = """
import json, sys
try:
    import resource
    for name, most in (("FSIZE", 0), ("CORE", 0), ("CPU", {seconds}), ("AS", {memory})):
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
except ImportError:
    pass
import torch
found = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
# As `pipeline.weights.read_weights` chooses.
if isinstance(found, dict) and isinstance(found.get("network"), dict):
    found = found["network"]
"""
# It gets the network as JSON, or null.
_FIT = """
network = json.load(sys.stdin)
if network:
    from monai.bundle import ConfigParser
    try:
        built = ConfigParser(network).get_parsed_content("network_def").state_dict()
    except Exception:  # bundle check says why
        sys.exit()
    states = [found, *found.values()] if isinstance(found, dict) else []
    shapes = [{{name: list(getattr(value, "shape", ())) for name, value in state.items()}}
              for state in states if isinstance(state, dict)]
    wanted = {{name: list(value.shape) for name, value in built.items()}}
    nearest = max(shapes, key=lambda state: len(wanted.keys() & state.keys()), default={{}})
    for name in [*wanted, *nearest]:
        if wanted.get(name) != nearest.get(name):
            print("differs:", json.dumps([name, nearest.get(name), wanted.get(name)]))
            break
"""
_TWIN = """
from safetensors.torch import load_file, save
twin = load_file(sys.argv[2])
state = found if isinstance(found, dict) else {{}}
for name in [*twin, *state]:
    pair = [state.get(name), twin.get(name)]
    # Bytes, because a number that is not one differs from itself.
    texts = [save({{"tensor": one.contiguous().clone()}}) if isinstance(one, torch.Tensor) else b"" for one in pair]
    if texts[0] != texts[1]:
        print("differs:", json.dumps([name, *(list(getattr(one, "shape", ())) for one in pair)]))
        break
"""


def check_loading(file: str, stream: IO[bytes], size: int, network: Any = None) -> Iterator[Finding]:
    """Yield a finding if torch refuses to load weights, or if they do not fit the network.

    Args:
        file: path within the bundle.
        stream: the weights.
        size: how many bytes they have.
        network: ``network_def``, already judged to be harmless; None compares nothing.
    """
    given = json.dumps({"network_def": network} if network else None).encode()
    why, differs = _load(_FIT, [stream], _MEMORY + 4 * size, given)
    if why:
        yield make_finding("weights-unloadable", file, "", why)
    elif differs:
        name, has, wants = differs
        why = f"{name}: {has or 'nothing'} in the weights, {wants or 'nothing'} in the network"
        yield make_finding("weights-mismatch", file, "", why)


def check_twins(file: str, stream: IO[bytes], twin: str, other: IO[bytes], size: int) -> Iterator[Finding]:
    """Yield a finding if weights that travel in two formats are not the same tensors.

    Args:
        file: path within the bundle of a file of ``torch.save``.
        stream: its bytes.
        twin: path of the safetensors file that should hold the same.
        other: its bytes.
        size: how many bytes both have.
    """
    why, differs = _load(_TWIN, [stream, other], _MEMORY + 8 * size, b"")
    if why:
        yield make_finding("weights-unloadable", file, "", why)
    elif differs:
        name, has, wants = differs
        shapes = "" if has == wants else f": {has or 'nothing'} and {wants or 'nothing'}"
        yield make_finding("weights-differ", file, name, f"the tensor differs from that in {twin}{shapes}")


def is_plain(value: Any) -> bool:
    """Return whether a part of a config has no expressions, references and macros.

    Example:
        >>> is_plain({"_target_": "UNet", "channels": [8, 16]}), is_plain({"channels": "@channels"})
        (True, False)
    """
    if isinstance(value, dict | list):
        return all(map(is_plain, value.values() if isinstance(value, dict) else value))
    return not (isinstance(value, str) and value.startswith(("$", "@", "%")))


def _load(probe: str, streams: list[IO[bytes]], memory: int, given: bytes) -> tuple[str, list[Any] | None]:
    """Return why files cannot be loaded, "" if they can, and what the probe printed."""
    code = (_START + probe).format(seconds=SECONDS, memory=memory)
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, f"{number}.pt") for number in range(len(streams))]
        for path, stream in zip(paths, streams, strict=True):
            with open(path, "wb") as copy:
                shutil.copyfileobj(stream, copy, _BLOCK)
        # -I: neither the current folder nor the environment adds modules.
        command = [sys.executable, "-I", "-c", code, *paths]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, input=given, cwd=folder)
        except subprocess.TimeoutExpired:
            return f"it takes longer than {SECONDS} s", None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:200] if lines else f"the process ended with {done.returncode}", None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    found = [line.removeprefix("differs: ") for line in lines if line.startswith("differs: ")]
    return "", json.loads(found[0]) if found else None
