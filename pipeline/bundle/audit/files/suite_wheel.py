"""Check a wheel in a bundle: it must be this package, as it is installed here."""

import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pipeline
from pipeline.bundle.audit.finding import Finding, make_finding, shorten

_NAME = re.compile(r"monai_segmentation_suite-([0-9A-Za-z.+!]+)-py3-none-any\.whl")
_MOST_BYTES = 20_000_000
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


def check_wheel(path: str, stream: IO[bytes]) -> Iterator[Finding]:
    """Yield what makes a wheel another one than this package.

    Args:
        path: within the bundle.
        stream: its bytes.
    """
    found = _NAME.fullmatch(path.rpartition("/")[2])
    if found is None:
        yield make_finding("foreign-wheel", path)
        return
    try:
        with zipfile.ZipFile(stream) as wheel:
            foreign = [name for name in wheel.namelist() if not _is_ours(name, found[1])]
            if foreign:
                yield make_finding("foreign-wheel", path, shorten(foreign[0]), "this package has no such file")
            elif found[1] != pipeline.__version__:
                yield make_finding(
                    "wheel-version", path, "", f"version {found[1]}, installed is {pipeline.__version__}"
                )
            else:
                yield from _compare(path, wheel)
    except _DAMAGE as error:
        yield make_finding("foreign-wheel", path, "", str(error) or type(error).__name__)


def _is_ours(name: str, version: str) -> bool:
    inside = name.startswith(("pipeline/", f"monai_segmentation_suite-{version}.dist-info/"))
    return name == "monai_segmentation_suite.py" or (inside and ".." not in name.split("/"))


def _compare(path: str, wheel: zipfile.ZipFile) -> Iterator[Finding]:
    installed = Path(pipeline.__file__).parents[1]
    total = 0
    for info in wheel.infolist():
        total += info.file_size
        if total > _MOST_BYTES:
            yield make_finding("foreign-wheel", path, "", f"more than {_MOST_BYTES} bytes")
            return
        if ".dist-info/" in info.filename or info.filename.endswith("/"):
            continue
        file = installed / info.filename
        if not file.is_file() or file.read_bytes() != wheel.read(info):
            # No more dangerous than another version, which anybody can claim: a wheel runs when it is installed only.
            why = f"it is another build of {pipeline.__version__}: this file is not as it is installed here"
            yield make_finding("wheel-differs", path, shorten(info.filename), why)
            return
