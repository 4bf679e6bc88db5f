"""Read switches given on the command line of ``python -m monai.bundle run``."""

from pipeline.issues import InputError


def read_flag(value: bool | str, name: str) -> bool:
    """Return a switch as a bool.

    ``--overlay false`` reaches a config as the text "false", which Python takes for true, so every class with a switch
    reads it with this function.

    Args:
        value: a bool, or "true" or "false" in any case.
        name: the option's name, for the message.

    Raises:
        InputError: the value is something else.

    Example:
        >>> read_flag("false", "overlay"), read_flag("True", "overlay"), read_flag(True, "overlay")
        (False, True, True)
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise InputError(f"--{name} must be true or false, got {value!r}")
