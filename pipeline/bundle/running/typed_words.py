"""What stands after the configs on the command line of ``bundle run``: overrides, read as MONAI reads them."""

import re
from collections.abc import Collection, Sequence
from typing import Any

from pipeline.bundle.config_files import suggest_name
from pipeline.bundle.overrides.command_line import RUN_ARGUMENTS
from pipeline.issues import InputError

#: MONAI's own arguments that name parts of the configs. The others name files or classes that nobody has audited.
IDS = ("init_id", "run_id", "final_id", "workflow_type")
_OPTIONS = ("allow", "allow_code", "sha256", "key", "dry_run")
_FLAG = re.compile(r"--[^-]|-[A-Za-z]")


def read_typed(words: Sequence[str], ids: Collection[str]) -> dict[str, Any]:
    """Return the values by id of words such as ``--train#trainer#max_epochs 2``.

    Args:
        words: as typed.
        ids: of the root of the configs; another one that is nearly an option of this command is misspelt.

    Raises:
        InputError: a word belongs to no option, an option of this command is misspelt, or an argument of MONAI names
            something that would not be audited.

    Example:
        >>> read_typed(["--amp", "false", "--train#trainer#max_epochs", "2", "--sizes=[8,8]"], ["amp"])
        {'amp': 'false', 'train#trainer#max_epochs': 2, 'sizes': [8, 8]}
    """
    import fire

    _check_form(words)
    typed: dict[str, Any] = {}
    fire.Fire(lambda **values: typed.update(values), command=list(words))
    for name, value in typed.items():
        _check_name(name, value, ids)
    return typed


def _check_form(words: Sequence[str]) -> None:
    """Refuse words that are neither an option nor its value: Fire would call something with them."""
    for before, word in zip(["x", *words], words, strict=False):
        follows = _FLAG.match(before) and "=" not in before
        if word in ("-", "--") or not (_FLAG.match(word) or follows):
            raise InputError(f"{word!r} is neither a config nor an option: type configs first, then --ID VALUE")


def _check_name(name: str, value: Any, ids: Collection[str]) -> None:
    root = re.split("#|::", name.lstrip("+~"))[0]
    if root in RUN_ARGUMENTS and root not in IDS and not (name == "logging_file" and value is False):
        hint = "name config files after the bundle, and values as --ID VALUE"
        raise InputError(f"--{name} is not an option of bundle run: what it names would not be audited; {hint}")
    near = suggest_name(name, _OPTIONS)
    if root not in ids and near.startswith("did you mean"):
        raise InputError(f"unknown option --{name}; {near.replace('_', '-')}")
