"""Import MONAI as fast as it can be, and only a version that this package can work with."""

import gc
import importlib.util
import logging
import sys
from importlib import metadata

from packaging.version import InvalidVersion, Version

from pipeline.issues import InputError

#: The oldest version; all before it run code that weights, archives or metadata bring along.
OLDEST = "1.6.1"
_WANTED = f"monai>={OLDEST},<1.7"


def import_monai() -> None:
    """Import MONAI's bundles with the garbage collector at rest, which saves a quarter of the time.

    Torch and MONAI make some million objects, all of which stay: to search them for garbage is in vain, now and later.

    Raises:
        InputError: see `require_monai`.
    """
    require_monai()
    # It says for every image that is loaded that a decoder for GPUs is not there.
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").setLevel(logging.ERROR)
    if "monai.bundle" in sys.modules:
        return
    enabled = gc.isenabled()
    gc.disable()
    try:
        import monai.bundle  # noqa: F401

        gc.freeze()
    finally:
        if enabled:
            gc.enable()


def require_monai() -> None:
    """Refuse a MONAI that is too old, which `pip install --no-deps` or a later command may have put there.

    Newer ones are tried. MONAI is not imported for this: an old one may not even be importable with a new torch.

    Raises:
        InputError: MONAI is missing or too old; the line says what to type.
    """
    hint = f'type {sys.executable} -m pip install "{_WANTED}"'
    try:
        found = metadata.version("monai")
    except metadata.PackageNotFoundError:
        if importlib.util.find_spec("monai"):  # a checkout, not installed
            return
        raise InputError(f"MONAI is not installed; {hint}") from None
    try:
        old = Version(found) < Version(OLDEST)
    except InvalidVersion:
        return
    # A checkout without tags calls itself 0+unknown.
    if old and not found.startswith("0+"):
        raise InputError(f"MONAI {found} is installed, too old and not safe; expected {OLDEST} or newer; {hint}")
