"""What to type instead: the nearest key, the file that has it, the reference that was meant."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.bundle.configs import Config
from pipeline.bundle.overrides.ids import is_remark, list_ids, split_id
from pipeline.bundle.overrides.signatures import Targets


def suggest_key(name: str, config: Config, reserved: Collection[str], elsewhere: Mapping[str, Config]) -> str:
    """Return the hint for a key that no config has at its top.

    Args:
        name: the key.
        config: the configs that were named.
        reserved: the arguments of the program itself.
        elsewhere: config by name of the bundle's files that were not named.

    Example:
        >>> suggest_key("learning_rat", {"learning_rate": 1}, (), {})
        'did you mean learning_rate?'
        >>> suggest_key("skip_crf", {"lr": 1}, (), {"refine.json": {"skip_crf": True}})
        'it is a key of refine.json, which --config_file does not name'
        >>> suggest_key("channels", {"net": {"_target_": "UNet", "channels": 3}}, (), {})
        'did you mean net#channels?'
    """
    files = [file for file, other in elsewhere.items() if name in other]
    if files:
        return f"it is a key of {_join(files)}, which --config_file does not name"
    near = find_nearest(name, _list_keys(config, reserved), 0.7)
    nested = [place for place, _ in list_ids(config) if split_id(place)[-1] == name and not place.startswith("_")]
    if nested and not near:
        return f"did you mean {nested[0]}?"
    near = near or find_nearest(name, _list_keys(config, reserved), 0.6)
    if near:
        return f"did you mean {near}?"
    others = {key: file for file, other in elsewhere.items() for key in other}
    key = find_nearest(name, others, 0.7)
    if key:
        return f"did you mean {key} of {others[key]}, which --config_file does not name?"
    return "docs/reference/configs.md lists the keys"


def suggest_object(value: Any, config: Config, elsewhere: Mapping[str, Config], targets: Targets, key: str) -> str:
    """Return the hint for a name that stands where an object belongs; "" if there is none.

    Example:
        >>> losses = {"losses.json": {"losses": {"focal": {"_target_": "FocalLoss"}}}}
        >>> suggest_object("focal", {}, losses, Targets(), "loss")
        'did you mean @losses#focal, with losses.json in --config_file?'
    """
    if not isinstance(value, str) or not value:
        return ""
    for file, other in {"": config, **elsewhere}.items():
        place = _find_place(value, other)
        if place:
            return f"did you mean @{place}{f', with {file} in --config_file' if file else ''}?"
    if targets.find(value) is not None:
        return f"""did you mean --{key} "{{'_target_': '{value}'}}"?"""
    names = {split_id(place)[-1] for other in (config, *elsewhere.values()) for place, _ in list_ids(other)}
    near = find_nearest(value, names, 0.8)
    return suggest_object(near, config, elsewhere, targets, key) if near and near != value else ""


def _list_keys(config: Config, reserved: Collection[str]) -> list[str]:
    return [key for key in (*config, *reserved) if not is_remark(key)]


def _find_place(name: str, config: Config) -> str:
    return next((place for place, _ in list_ids(config) if name and split_id(place)[-1] == name), "")


def find_nearest(name: str, known: Collection[str], cutoff: float) -> str:
    """Return the known name that is most like a name, "" if none is."""
    return next(iter(difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=cutoff)), "")


def _join(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
