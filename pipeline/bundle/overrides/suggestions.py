"""What to type instead: the nearest key, the file that has it, the reference that was meant."""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from pipeline.bundle.configs import Config, find_references, list_texts
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
        >>> refine = {"skip_crf": True, "refine": [{"_target_": "CRF", "_disabled_": "@skip_crf"}]}
        >>> suggest_key("skip_crf", {"lr": 1}, (), {"refine.json": refine})
        'it is a key of refine.json: add that file to --config_file'
        >>> suggest_key("input", {"lr": 1}, (), {"inference.json": {"bundle_root": ".", "run": [], "input": "data"}})
        'it is a key of inference.json, which is not for this run'
        >>> suggest_key("channels", {"net": {"_target_": "UNet", "channels": 3}}, (), {})
        'did you mean net#channels?'
    """
    if any(name in other for other in elsewhere.values()):
        return _suggest_file(name, config, elsewhere)
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
        return f"did you mean {key}? {_suggest_file(key, config, elsewhere)}"
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


def _suggest_file(name: str, config: Config, elsewhere: Mapping[str, Config]) -> str:
    """Say which file has a key, and whether it can be added."""
    helpful = [file for file, other in elsewhere.items() if name in other and _uses(name, config, other)]
    if helpful:
        return f"it is a key of {' or '.join(helpful)}: add that file to --config_file"
    owners = [file for file, other in elsewhere.items() if name in other]
    complete = [file for file in owners if is_complete(elsewhere[file])] or owners
    return f"it is a key of {' and '.join(complete)}, which {'is' if len(complete) == 1 else 'are'} not for this run"


def is_complete(config: Config) -> bool:
    """Return whether a config stands alone and is no override of another one."""
    return "run" in config and "bundle_root" in config


def _uses(name: str, config: Config, override: Config) -> bool:
    """Return whether an override of this config gives a key a meaning."""
    parents = [split_id(key.removeprefix("+"))[0] for key in override if len(split_id(key)) > 1]
    if is_complete(override) or not all(parent in config or parent in override for parent in parents):
        return False
    texts = [text for part in (config, override) for _, text in list_texts(part)]
    return any(name in find_references(text) for text in texts)
