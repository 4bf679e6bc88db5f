"""The names of a bundle's labels."""

from pathlib import Path

from pipeline.bundle.config_files import METADATA, read_config
from pipeline.bundle.overrides.ids import look_up

_PLACE = "network_data_format#outputs#pred#channel_def"
_BACKGROUND = ("background", "everything else")


def read_class_names(bundle: Path) -> dict[int, str]:
    """Return the name of each label from 1, as ``metadata.json`` gives them; nothing if it does not.

    A single channel may be named without its background: ``{"0": "tumour"}`` names label 1.

    Args:
        bundle: its folder.
    """
    named = look_up(read_config(bundle, METADATA, optional=True), _PLACE)
    if not isinstance(named, dict):
        return {}
    names = {int(key): str(name) for key, name in named.items() if str(key).isdecimal()}
    if len(names) == 1 and names.get(0, _BACKGROUND[0]).casefold() not in _BACKGROUND:
        return {1: names[0]}
    return {label: name for label, name in sorted(names.items()) if label}
