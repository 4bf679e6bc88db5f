"""Build a wheel of this package from what is installed, whether from a wheel or in editable mode."""

import base64
import hashlib
import importlib.util
import io
from importlib import metadata
from pathlib import Path

import pipeline
from pipeline.bundle.packing.reproducible_zip import write_zip
from pipeline.issues import InputError

DISTRIBUTION = "monai-segmentation-suite"
_MODULE = "monai_segmentation_suite"
_KEPT = ("METADATA", "entry_points.txt", "top_level.txt")
_WHEEL = "Wheel-Version: 1.0\nGenerator: pipeline bundle pack\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def find_distribution() -> metadata.Distribution:
    """Return what the installer knows of this package.

    Raises:
        InputError: it is not installed, or the installed one has another version than the imported one.
    """
    hint = f"install it where you pack: python -m pip install -e {Path(pipeline.__file__).parents[1]}"
    # A checkout holds a `.egg-info` of the same name, which Python finds first in the current folder; it lacks parts.
    installed = (one for one in metadata.distributions(name=DISTRIBUTION) if one.read_text("METADATA"))
    found = next(installed, None)
    if found is None:
        raise InputError(f"{DISTRIBUTION} is imported but not installed; {hint}")
    if found.version != pipeline.__version__:
        raise InputError(f"{DISTRIBUTION} is installed as {found.version}, imported as {pipeline.__version__}; {hint}")
    return found


def build_wheel() -> tuple[str, bytes]:
    """Return the name and the bytes of a wheel of this package; the same package gives the same bytes.

    Raises:
        InputError: see `find_distribution`.
    """
    distribution = find_distribution()
    files = _read_package()
    info = f"{_MODULE}-{distribution.version}.dist-info"
    for name in _KEPT:
        files[f"{info}/{name}"] = (distribution.read_text(name) or "").replace("\r\n", "\n").encode()
    licence = distribution.read_text("licenses/LICENSE") or distribution.read_text("LICENSE")
    if licence:
        files[f"{info}/licenses/LICENSE"] = licence.encode()
    files[f"{info}/WHEEL"] = _WHEEL.encode()
    record = f"{info}/RECORD"
    lines = [f"{path},{_digest(content)},{len(content)}" for path, content in sorted(files.items())]
    files[record] = "".join(f"{line}\n" for line in [*lines, f"{record},,"]).encode()
    buffer = io.BytesIO()
    write_zip(buffer, files)
    return f"{_MODULE}-{distribution.version}-py3-none-any.whl", buffer.getvalue()


def _read_package() -> dict[str, bytes]:
    folder = Path(pipeline.__file__).parent
    spec = importlib.util.find_spec(_MODULE)
    entry = Path(spec.origin) if spec and spec.origin else folder.parent / f"{_MODULE}.py"
    files = {entry.name: entry.read_bytes()}
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        foreign = path.suffix in (".pyc", ".pyo") or any(part[0] == "." or part == "__pycache__" for part in parts)
        if path.is_file() and not foreign:
            files["/".join((folder.name, *parts))] = path.read_bytes()
    return files


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
