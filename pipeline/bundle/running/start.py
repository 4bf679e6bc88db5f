"""Start MONAI with what was audited."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.bundle.audit import AuditResult
from pipeline.bundle.overrides.literals import make_literal
from pipeline.bundle.running.chosen_configs import Chosen
from pipeline.bundle.running.received import refuse_changes
from pipeline.issues import InputError

_ROOT = "bundle_root"
# The beginning of what MONAI says about every config, whoever wrote it.
_WARNING = r"(?s)parsing config_file .*GHSA-873f-pvrv-4x83"


def start_monai(
    root: Path, chosen: Chosen, typed: Mapping[str, Any], words: Sequence[str], result: AuditResult
) -> None:
    """Run configs as ``python -m monai.bundle run`` does.

    The files are compared with the audit's digests when MONAI is loaded, so that what is read next is what was audited.

    Args:
        root: folder of the bundle.
        chosen: the configs.
        typed: values by id, as `read_typed` returns them.
        words: as typed; the start-up check of the suite's bundles reads them, too.
        result: of the audit.

    Raises:
        InputError: a file has changed since.
    """
    import fire
    from monai.bundle import run

    values = dict(typed)
    if any(path.endswith((".py", ".so", ".pyd")) for path in result.digests):  # it would not run if it were not allowed
        sys.path.insert(1, str(root.resolve()))
        sys.dont_write_bytecode = True
    else:
        from pipeline.bundle.running.audited_workflow import AuditedWorkflow

        values["workflow_name"] = AuditedWorkflow
    refuse_changes(root, result)
    for path, content in chosen.own.items():
        if path.read_bytes() != content:
            raise InputError(f"{path} changed after it was audited; nothing ran, try again")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _WARNING, UserWarning)
        fire.Fire(lambda **_: run(config_file=chosen.locate(root), **values), command=list(words))


def place_root(root: Path, configs: Sequence[Any], typed: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``bundle_root`` as the folder where the bundle lies, if its configs have a plain one of their own.

    Args:
        root: folder of the bundle.
        configs: the bundle's, as data.
        typed: values by id; one that names the root is kept.
    """
    given = [config[_ROOT] for config in configs if isinstance(config, dict) and _ROOT in config]
    if _ROOT in typed or not given or not isinstance(given[-1], str) or given[-1][:1] in ("$", "@", "%"):
        return {}
    text = str(root)
    return {} if text == given[-1] else {_ROOT: make_literal(text) if set(text) & set("#$@%") else text}
