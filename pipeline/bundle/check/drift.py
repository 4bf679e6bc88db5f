"""What differs between training or evaluation and inference, although both must do the same."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.bundle.configs import Config
from pipeline.bundle.overrides.expectations import resolve
from pipeline.bundle.overrides.ids import MISSING, is_remark, look_up
from pipeline.bundle.overrides.literals import parse_expression, read_reference
from pipeline.issues import Issue

_FILE = "inference.json"
# Transforms that training alone needs, or that say what a step does.
_REMARKS = ("_desc_", "allow_missing_keys")
# Where files lie and how they are loaded: results are the same.
_PLACES = ("bundle_root", "output_dir", "dataset_dir", "num_workers")


def check_drift(scored: Config, inference: Config) -> Iterator[Issue]:
    """Yield what inference does otherwise than validation, by which the checkpoint was chosen and scored.

    Compared are the network, the inferer, the transforms of the image, and the settings of both.

    Args:
        scored: ``train.json`` with ``evaluate.json``, if there is one.
        inference: ``inference.json``.

    Example:
        >>> [issue.one_line() for issue in check_drift({"network_def": {"a": 1}}, {"network_def": {"a": 2}})]
        ['error drift inference.json [network_def]: network_def#a is 2, in training 1']
    """
    for theirs, ours in (("network_def", "network_def"), ("validate#inferer", "inferer")):
        yield from _compare(look_up(scored, theirs), look_up(inference, ours), ours, "training")
    shared = [key for key, value in inference.items() if key in scored and not isinstance(value, dict | list)]
    for key in shared:
        if key not in _PLACES and not is_remark(key):
            yield from _compare(scored[key], inference[key], key, "evaluation")
    yield from _compare_chains(scored, inference)


def _compare(theirs: Any, ours: Any, where: str, other: str) -> Iterator[Issue]:
    if MISSING in (theirs, ours) or theirs == ours:
        return
    place, left, right = _find_difference(theirs, ours, where)
    message = f"{place} is {right!r}, in {other} {left!r}"
    yield Issue("drift", "error" if where == "network_def" else "warning", message, where, _FILE)


def _find_difference(theirs: Any, ours: Any, where: str) -> tuple[str, Any, Any]:
    """Return the first place at which two parts of configs differ, and what they have there."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in [*theirs, *ours]:
            left, right = theirs.get(key, "nothing"), ours.get(key, "nothing")
            if left != right:
                return _find_difference(left, right, f"{where}#{key}")
    return where, theirs, ours


def _compare_chains(scored: Config, inference: Config) -> Iterator[Issue]:
    theirs = list_steps(scored, look_up(scored, "validate#preprocessing"))
    ours = list_steps(inference, look_up(inference, "preprocessing"))
    if theirs is None or ours is None:
        return
    expected = [_for_image(step) for step in theirs if step.get("keys") not in ("label", ["label"])]
    found = [_for_image(step) for step in ours]
    if len(expected) != len(found):
        names = [" ".join(str(step.get("_target_")) for step in chain) for chain in (found, expected)]
        yield Issue(
            "drift", "warning", f"preprocessing is {names[0]}, in validation {names[1]}", "preprocessing", _FILE
        )
        return
    for number, (left, right) in enumerate(zip(expected, found, strict=True)):
        yield from _compare(left, right, f"preprocessing#transforms#{number}", "validation")


def _for_image(step: Mapping[str, Any]) -> dict[str, Any]:
    """Return a transform as it treats the image."""
    kept = {key: value for key, value in step.items() if key not in _REMARKS}
    keys = kept.get("keys")
    if isinstance(keys, list) and "image" in keys:
        at = keys.index("image")
        several = {key: value for key, value in kept.items() if isinstance(value, list) and len(value) == len(keys) > 1}
        kept |= {key: value[at] for key, value in several.items() if key in ("keys", "mode", "padding_mode", "dtype")}
        kept["keys"] = "image"
    return kept


def list_steps(config: Config, chain: Any) -> list[dict[str, Any]] | None:
    """Return the transforms of a ``Compose``, following references and sums of lists.

    Args:
        config: in which references are looked up.
        chain: a ``Compose``, a list, a reference to one, or an expression that adds such lists.

    Returns:
        None if the list is made in another way.

    Example:
        >>> config = {"a": [{"_target_": "A"}], "b": [{"_target_": "B"}]}
        >>> [step["_target_"] for step in list_steps(config, {"_target_": "Compose", "transforms": "$@a + @b"})]
        ['A', 'B']
    """
    chain = resolve(config, chain)
    if isinstance(chain, dict):
        chain = resolve(config, chain.get("transforms"))
    if isinstance(chain, list):
        steps = [resolve(config, step) for step in chain]
        return steps if all(isinstance(step, dict) for step in steps) else None
    if isinstance(chain, str) and chain.startswith("$"):
        return _add_lists(config, chain)
    return None


def _add_lists(config: Config, text: str) -> list[dict[str, Any]] | None:
    parts: Sequence[str] = [part.strip() for part in text.removeprefix("$").split("+")]
    tree = parse_expression(text)
    if (
        tree is None
        or not all(read_reference(part) for part in parts)
        or not isinstance(tree.body, ast.BinOp | ast.Name)
    ):
        return None
    lists = [list_steps(config, part) for part in parts]
    return None if None in lists else [step for steps in lists for step in steps or ()]
