"""What differs between two bundles, by the part of the experiment that it belongs to."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.audit.bundle_source import Reader, open_source
from pipeline.bundle.config_files import METADATA
from pipeline.bundle.configs import Config, read_target
from pipeline.bundle.overrides.ids import is_object
from pipeline.datasets.manifests.strict_json import parse_json
from pipeline.issues import InputError, join_lines

# The first part of an id, or its first two parts, that tells what an id is about.
_SECTIONS: Mapping[str, Sequence[str]] = {
    "network": ("network_def", "network"),
    "loss": ("loss", "losses"),
    "optimisation": ("optimizer", "lr_scheduler", "train#trainer"),
    "augmentation": ("train#random_transforms", "train#augmentation", "train#trainer#prepare_batch"),
    "preprocessing": (
        *("preprocessing", "train#deterministic_transforms", "train#preprocessing"),
        *("validate#preprocessing", "validate#final_transforms"),
    ),
    "data": (
        *("manifest", "dataset_dir", "fold", "split", "dataset", "dataloader"),
        *("train#dataset", "train#dataloader", "validate#dataset", "validate#dataloader"),
    ),
    "inference": ("inferer", "train#inferer", "validate#inferer"),
    "post-processing": ("postprocessing", "to_probabilities", "measure", "refine", "save", "validate#postprocessing"),
    "metrics": ("validate#key_metric", "validate#additional_metrics"),
    "run": ("handlers", "train#handlers", "validate#handlers", "initialize", "run", "finalize", "imports"),
    "settings": (),
    "metadata": (),
    "weights": (),
    "files": (),
}
_BY_ID = {name: section for section, names in _SECTIONS.items() for name in names}
# As good as none: an absent value.
_NOTHING = "-"
_LONGEST = 100


@dataclass(frozen=True)
class Difference:
    """One difference between two bundles.

    Example:
        >>> Difference("network", "train.json", "network_def#features", "16", "32").one_line()
        'network_def#features: 16 -> 32 (train.json)'
    """

    section: str  #: the part of the experiment, such as ``"network"``
    file: str  #: path within the bundle; several with commas where they differ in the same way
    place: str  #: id in the config; "" for a file as a whole
    first: str  #: what the first bundle has, ``"-"`` for nothing
    second: str  #: what the second bundle has, ``"-"`` for nothing

    def one_line(self) -> str:
        """Return the difference as one line."""
        what = f"{_shorten(self.first)} -> {_shorten(self.second)}"
        if self.first == _NOTHING:
            what = f"added {_shorten(self.second)}"
        elif self.second == _NOTHING:
            what = f"removed {_shorten(self.first)}"
        return join_lines(
            f"{self.place or self.file}: {what}" + (f" ({self.file})" if self.place and self.file else "")
        )


def compare_bundles(first: Path, second: Path) -> list[Difference]:
    """Return what differs between two bundles, in the order of the sections.

    Args:
        first: folder or zip file of a bundle; nothing in it is run.
        second: the same of the other bundle.

    Raises:
        InputError: one of them is neither a folder nor a zip file, or a config in it is no JSON.
    """
    readers = [Reader(open_source(path)) for path in (first, second)]
    for path, reader in zip((first, second), readers, strict=True):
        if not any(name.startswith("configs/") for name in reader.source.sizes):
            raise InputError(f"{path} is not a bundle; expected a folder or a zip file with configs/ in it")
    found: list[Difference] = []
    names = sorted({name for reader in readers for name in reader.source.sizes if not name.startswith("output/")})
    for name in names:
        contents = [reader.read(name) if name in reader.source.sizes else b"" for reader in readers]
        digests = [reader.digests.get(name, _NOTHING) for reader in readers]
        if digests[0] != digests[1]:
            found += _compare_files(name, contents, digests)
    order = list(_SECTIONS)
    return sorted(_unite(found), key=lambda item: order.index(item.section))


def compare_configs(first: Config, second: Config) -> list[Difference]:
    """Return what differs between two whole configs, in the order of the sections.

    Example:
        >>> [item.one_line() for item in compare_configs({"seed": 0, "fold": 1}, {"seed": 1, "fold": 1})]
        ['seed: 0 -> 1']
    """
    found = [
        Difference(_find_section("", place), "", place, *map(_show, values))
        for place, *values in _walk(first, second, "")
    ]
    order = list(_SECTIONS)
    return sorted(found, key=lambda item: order.index(item.section))


def _compare_files(name: str, contents: Sequence[bytes | None], digests: Sequence[str]) -> Iterator[Difference]:
    file = name.removeprefix("configs/")
    if name.startswith("configs/") and name.endswith(".json") and file != "manifest.json" and None not in contents:
        left, right = (_parse(name, content) if content else {} for content in contents)
        if _NOTHING not in digests:
            for place, *values in _walk(left, right, ""):
                yield Difference(_find_section(file, place), file, place, *map(_show, values))
            return
    section = "weights" if name.startswith("models/") else "data" if file == "manifest.json" else "files"
    yield Difference(section, file, "", *(_describe(digest) for digest in digests))


def _parse(name: str, content: bytes) -> Config:
    data, issues = parse_json(content)
    if issues or not isinstance(data, dict):
        raise InputError(f"{name}: {issues[0].message if issues else 'expected a JSON object'}")
    return data


def _describe(digest: str) -> str:
    return digest if digest == _NOTHING else f"sha256 {digest[:16]}"


def _find_section(file: str, place: str) -> str:
    if file == METADATA:
        return "metadata"
    parts = place.removeprefix("+").split("#")
    return _BY_ID.get("#".join(parts[:2])) or _BY_ID.get(parts[0], "settings")


def _walk(left: Any, right: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the places at which two parts of configs differ, with what they have there."""
    if left == right:
        return
    if isinstance(left, dict) and isinstance(right, dict) and read_target(left) == read_target(right):
        for key in [key for key in dict.fromkeys([*left, *right]) if key != "_desc_"]:
            name = key.replace("::", "#")
            inner = f"{place}#{name}" if place else name
            yield from _walk(left.get(key, _NOTHING), right.get(key, _NOTHING), inner)
    elif _is_chain(left) and _is_chain(right):
        yield from _walk_chains(left, right, place)
    else:
        yield place, left, right


def _is_chain(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(step, dict) for step in item)


def _walk_chains(left: list[Config], right: list[Config], place: str) -> Iterator[tuple[str, Any, Any]]:
    """Compare the steps of two chains; equal classes in the same order belong together."""
    ours, theirs = ([read_target(step) for step in chain] for chain in (left, right))
    for kind, a, b, c, d in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind == "equal":
            for step, other in zip(left[a:b], right[c:d], strict=True):
                yield from _walk(step, other, f"{place}#{read_target(step)}")
            continue
        yield from ((f"{place}#{read_target(step)}", step, _NOTHING) for step in left[a:b])
        yield from ((f"{place}#{read_target(step)}", _NOTHING, step) for step in right[c:d])


def _show(value: Any) -> str:
    """Return a value as people read it: an object as a call."""
    if isinstance(value, str):
        return value
    if is_object(value):
        given = [f"{key}={_show(item)}" for key, item in value.items() if not key.startswith("_")]
        return f"{read_target(value)}({', '.join(given)})"
    return json.dumps(value)


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _unite(found: Sequence[Difference]) -> list[Difference]:
    """Join what several files have in common: the same setting with the same two values."""
    joined: dict[tuple[str, ...], list[str]] = {}
    for item in found:
        joined.setdefault((item.section, item.place or item.file, item.first, item.second), []).append(item.file)
    united = []
    for (section, place, first, second), files in joined.items():
        name = "" if place in files else place
        united.append(Difference(section, ", ".join(dict.fromkeys(files)), name, first, second))
    return united


def format_differences(found: Sequence[Difference], first: Path, second: Path) -> str:
    """Return the differences as text, by section.

    Example:
        >>> print(format_differences([Difference("loss", "train.json", "loss", "a", "b")], Path("x"), Path("y")))
        x -> y: 1 difference
        loss
          loss: a -> b (train.json)
    """
    lines = [f"{first} -> {second}: {len(found)} difference{'s' * (len(found) != 1)}"]
    for section in _SECTIONS:
        inside = [item for item in found if item.section == section]
        lines += [section, *(f"  {item.one_line()}" for item in inside)] if inside else []
    return "\n".join(lines)


def list_differences(found: Sequence[Difference]) -> list[dict[str, str]]:
    """Return the differences for JSON."""
    return [asdict(item) for item in found]
