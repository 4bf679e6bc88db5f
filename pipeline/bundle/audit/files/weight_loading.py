"""Load weights as torch does for ``weights_only``, in a process of its own with limits on time, memory and files."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from pipeline.bundle.audit.finding import Finding, make_finding

SECONDS = 120
_BLOCK = 1 << 20
_MEMORY = 24 << 30  # torch with CUDA reserves most of it without using it
# The process may not write files. It gets the network as JSON, or null, and prints what differs.
_PROBE = """
import json, sys
try:
    import resource
    for name, most in (("FSIZE", 0), ("CORE", 0), ("CPU", {seconds}), ("AS", {memory})):
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
except ImportError:
    pass
import torch
found = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
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


def check_loading(file: str, stream: IO[bytes], size: int, network: Any = None) -> Iterator[Finding]:
    """Yield a finding if torch refuses to load weights, or if they do not fit the network.

    Args:
        file: path within the bundle.
        stream: the weights.
        size: how many bytes they have.
        network: ``network_def``, already judged to be harmless; None compares nothing.
    """
    with tempfile.NamedTemporaryFile(suffix=".pt") as copy:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            copy.write(block)
        copy.flush()
        code, why = _load(copy.name, _MEMORY + 4 * size, network)
    if code:
        yield make_finding(code, file, "", why)


def is_plain(value: Any) -> bool:
    """Return whether a part of a config has no expressions, references and macros.

    Example:
        >>> is_plain({"_target_": "UNet", "channels": [8, 16]}), is_plain({"channels": "@channels"})
        (True, False)
    """
    if isinstance(value, dict | list):
        return all(map(is_plain, value.values() if isinstance(value, dict) else value))
    return not (isinstance(value, str) and value.startswith(("$", "@", "%")))


def _load(path: str, memory: int, network: Any) -> tuple[str, str]:
    """Return the code and reason of a finding; empty texts if the file can be loaded."""
    # -I: neither the current folder nor the environment adds modules.
    command = [sys.executable, "-I", "-c", _PROBE.format(seconds=SECONDS, memory=memory), path]
    given = json.dumps({"network_def": network} if network else None).encode()
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, input=given)
    except subprocess.TimeoutExpired:
        return "weights-unloadable", f"it takes longer than {SECONDS} s"
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return "weights-unloadable", lines[-1][:200] if lines else f"the process ended with {done.returncode}"
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith("differs: "):
            name, has, wants = json.loads(line.removeprefix("differs: "))
            return "weights-mismatch", f"{name}: {has or 'nothing'} in the weights, {wants or 'nothing'} in the network"
    return "", ""
