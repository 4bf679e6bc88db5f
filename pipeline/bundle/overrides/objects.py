"""Check the objects of a config that a command line touches: their class and its arguments."""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.bundle.configs import SIGNS, Config
from pipeline.bundle.overrides.ids import is_object, is_remark, list_ids, look_up, split_id
from pipeline.bundle.overrides.signatures import Signature, Targets, read_signature
from pipeline.issues import Issue


def list_touched(config: Config, name: str) -> Iterator[tuple[str, Config]]:
    """Yield the objects that a changed id belongs to or holds, with their ids; the inner ones last.

    Example:
        >>> config = {"net": {"_target_": "A", "act": {"_target_": "B"}}, "loss": {"_target_": "C"}}
        >>> [place for place, _ in list_touched(config, "net#act")]
        ['net', 'net#act']
    """
    parts = split_id(name)
    outer = ["#".join(parts[:end]) for end in range(1, len(parts) + 1)]
    inner = [f"{outer[-1]}#{place}" for place, _ in list_ids(look_up(config, name))]
    for place in (*outer[-2:], *inner):
        item = look_up(config, place)
        if is_object(item):
            yield place, item


def check_object(place: str, item: Mapping[str, Any], targets: Targets) -> Iterator[Issue]:
    """Yield what is wrong with the class of an object and the names of its arguments."""
    name = item["_target_"]
    if not isinstance(name, str) or name.startswith(SIGNS):
        return
    target = targets.find(name)
    if target is None:
        message = f"{place}#_target_ names no class: {name!r}"
        yield Issue("unknown-target", "error", message, f"{place}#_target_", hint=targets.suggest(name))
        return
    signature = read_signature(target)
    if signature is None:
        return
    given = [key for key in item if not is_remark(key)]
    for key in given:
        if (hint := _suggest_argument(key, target, signature)) is not None:
            yield Issue(
                "unknown-argument", "error", f"{name} takes no argument {key} ({place})", f"{place}#{key}", hint=hint
            )
    missing = sorted(signature.required - set(given))
    if missing and item.get("_mode_", "default") == "default":
        message = f"{name} needs the argument {missing[0]} ({place})"
        yield Issue("missing-argument", "error", message, place, hint=f"give it: --{place}#{missing[0]} VALUE")


def _suggest_argument(key: str, target: Callable[..., Any], signature: Signature) -> str | None:
    """Return the hint for an argument that a class does not take; None if it may take it."""
    if key in signature.annotations:
        return None
    near = difflib.get_close_matches(key, signature.annotations, n=1, cutoff=0.75 if signature.is_open else 0.5)
    if signature.is_open and (not near or _is_read_by_name(key, target)):
        return None
    return f"did you mean {near[0]}?" if near else f"it takes {', '.join(signature.annotations)}"


def _is_read_by_name(key: str, target: Callable[..., Any]) -> bool:
    """Return whether a class looks for an argument in its ``**kwargs``."""
    try:
        source = inspect.getsource(target)
    except (OSError, TypeError):
        return True
    return f'"{key}"' in source or f"'{key}'" in source
