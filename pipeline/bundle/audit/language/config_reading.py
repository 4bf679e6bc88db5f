"""Read configs as data, with limits on size and depth: JSON and YAML without duplicate keys, tags, giant aliases."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from pipeline.bundle.audit.finding import Finding, make_finding, shorten
from pipeline.datasets.manifests.strict_json import parse_json

SUFFIXES = (".json", ".yaml", ".yml")
MOST_BYTES = {".json": 5_000_000, ".yaml": 1_000_000, ".yml": 1_000_000}
MOST_DEPTH = 64
#: Values in a config, aliases unfolded.
MOST_VALUES = 200_000
_MOST_DIGITS = 1000
# A text without an end goes to the end of the file, so that its quotes are not looked at again.
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[{}\[\],]', re.DOTALL)
_PLAIN_TAGS = {"map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge"}
_TAG = "tag:yaml.org,2002:"


class _RefusedError(Exception):
    """A config is not read; the arguments are code, key and reason."""


def name_suffix(path: str) -> str:
    """Return the suffix by which MONAI knows a config, in lower case; "" for another file.

    Example:
        >>> name_suffix("configs/train.JSON"), name_suffix("LICENSE")
        ('.json', '')
    """
    return next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), "")


def check_size(path: str, size: int) -> Finding | None:
    """Return a finding if a config is too large to be read."""
    most = MOST_BYTES[name_suffix(path)]
    return make_finding("config-too-large", path, why=f"{size} bytes, more than {most}") if size > most else None


def read_config_data(path: str, content: bytes) -> tuple[Any, list[Finding]]:
    """Return the data in a config, None if it cannot be read, and what is wrong with it.

    Args:
        path: within the bundle; its suffix tells the language.
        content: of the file, at most `MOST_BYTES`.
    """
    try:
        if name_suffix(path) == ".json":
            _check_json_structure(content)
            data, issues = parse_json(content)
            if issues:
                double = "duplicate" in issues[0].message
                raise _RefusedError("duplicate-key" if double else "config-syntax", "", issues[0].message)
            return data, []
        return _read_yaml(content), []
    except _RefusedError as refused:
        code, key, why = refused.args
        return None, [make_finding(code, path, key, why)]
    except (RecursionError, MemoryError):
        return None, [make_finding("config-too-deep", path)]


def _check_json_structure(content: bytes) -> None:
    depth = values = 0
    for token in _STRUCTURE.finditer(content):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(token[0], 0)
        values += token[0] == b","
        if depth > MOST_DEPTH:
            raise _RefusedError("config-too-deep", "", f"more than {MOST_DEPTH} levels")
        if values > MOST_VALUES:
            raise _RefusedError("config-too-large", "", f"more than {MOST_VALUES} values")


def _read_yaml(content: bytes) -> Any:
    try:
        text = content.decode("utf-8-sig")
        # The events are read first: composing a deep document would fill the stack.
        _check_events(yaml.parse(text, Loader=_choose_loader()))
        node = yaml.compose(text, Loader=_choose_loader())
        if node is None:
            return None
        _check_nodes(node, {}, [])
        loader = yaml.SafeLoader("")
        return loader.construct_document(node)
    except UnicodeDecodeError as error:
        raise _RefusedError("config-syntax", "", f"byte {error.start} is not UTF-8") from None
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        # The last ones are PyYAML's for a value that does not fit its tag.
        why = " ".join(str(error).split())[:200]
        raise _RefusedError("config-syntax", "", why or type(error).__name__) from None


def _choose_loader() -> Any:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_events(events: Iterator[Any]) -> None:
    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise _RefusedError("config-too-deep", "", f"more than {MOST_DEPTH} levels")
        tag = getattr(event, "tag", None)
        if tag and tag != "!" and tag.removeprefix(_TAG) not in _PLAIN_TAGS:
            raise _RefusedError("yaml-tag", f"line {event.start_mark.line + 1}", shorten(tag))


def _check_nodes(node: Any, sizes: dict[int, int], above: list[int]) -> int:
    """Return how many values a node unfolds to, each alias counted as often as it stands."""
    if id(node) in above:
        raise _RefusedError("yaml-alias", f"line {node.start_mark.line + 1}", "an alias contains itself")
    if id(node) in sizes:
        return sizes[id(node)]
    children: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    elif node.tag != f"{_TAG}str" and len(node.value) > _MOST_DIGITS:
        # Python takes long to make a number of very many digits, and does not write it.
        raise _RefusedError("config-syntax", f"line {node.start_mark.line + 1}", f"{len(node.value)} digits")
    above.append(id(node))
    size = 1 + sum(_check_nodes(child, sizes, above) for child in children)
    above.pop()
    if size > MOST_VALUES:
        raise _RefusedError("yaml-alias", f"line {node.start_mark.line + 1}", f"more than {MOST_VALUES} values")
    sizes[id(node)] = size
    return size


def _check_keys(node: Any) -> None:
    known = set()
    for key, _ in node.value:
        place = f"line {key.start_mark.line + 1}"
        if not isinstance(key, yaml.ScalarNode):
            raise _RefusedError("config-syntax", place, "a key is not a text")
        if key.value in known:
            raise _RefusedError("duplicate-key", place, shorten(key.value))
        known.add(key.value)
