"""Bundles of others run only as far as the audit finds them clean."""

from pathlib import Path

from pipeline.bundle.config_files import BUNDLES, INFERENCE, find_bundle
from pipeline.issues import InputError

# The digests that packing writes; a bundle with them came from somebody, or is on its way.
_PACKED = "SHA256SUMS"


def require_own(name: str) -> None:
    """Require that a bundle is the user's own, or one in whose inference the audit finds nothing.

    A config is a program. Who writes a bundle may run it, as ``python -m monai.bundle run`` does. One that was packed
    is audited first, and a zip file is left to ``bundle unpack`` and ``bundle run``, which can be told what to allow.

    Args:
        name: as typed: a bundle's name, its folder or a zip file.

    Raises:
        InputError: it is a zip file, or the audit has findings.
    """
    path = Path(name)
    if path.suffix.lower() == ".zip" and path.is_file():
        hint = f"unpack it first, which audits it: python -m pipeline bundle unpack {path} {path.with_suffix('')}"
        raise InputError(f"{path} is a packed bundle; {hint}")
    bundle = find_bundle(name, [BUNDLES])
    if not (bundle / _PACKED).is_file():
        return
    from pipeline.bundle.audit import Allowances
    from pipeline.bundle.running.plan import make_plan

    refused = make_plan(bundle, [INFERENCE], [], Allowances()).refused
    if refused:
        number = f"{len(refused)} finding{'s' * (len(refused) > 1)}"
        hint = f"read them, and allow what you trust: python -m pipeline bundle run {bundle} inference --dry-run"
        raise InputError(f"{bundle} was packed by somebody, and the audit has {number}; nothing ran; {hint}")
