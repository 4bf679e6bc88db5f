"""Load weights as torch does for ``weights_only``, in a process of its own with limits on time, memory and files."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from pipeline.bundle.audit.finding import Finding, make_finding

SECONDS = 120
_BLOCK = 1 << 20
# The process may not write files, and gets memory for torch itself and a few copies of the weights.
_PROBE = """
import sys
try:
    import resource
    for name, most in (("FSIZE", 0), ("CORE", 0), ("CPU", {seconds}), ("AS", {memory})):
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (most, most))
except ImportError:
    pass
import torch
found = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
print(type(found).__name__)
"""
_MEMORY = 24 << 30  # torch with CUDA reserves most of it without using it


def check_loading(file: str, stream: IO[bytes], size: int) -> Iterator[Finding]:
    """Yield a finding if torch refuses to load weights.

    Args:
        file: path within the bundle.
        stream: the weights.
        size: how many bytes they have.
    """
    with tempfile.NamedTemporaryFile(suffix=".pt") as copy:
        for block in iter(lambda: stream.read(_BLOCK), b""):
            copy.write(block)
        copy.flush()
        why = _load(copy.name, _MEMORY + 4 * size)
    if why:
        yield make_finding("weights-unloadable", file, "", why)


def _load(path: str, memory: int) -> str:
    """Return why a file cannot be loaded; "" if it can."""
    # -I: neither the current folder nor the environment adds modules.
    command = [sys.executable, "-I", "-c", _PROBE.format(seconds=SECONDS, memory=memory), path]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return f"it takes longer than {SECONDS} s"
    if not done.returncode:
        return ""
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:200] if lines else f"the process ended with {done.returncode}"
