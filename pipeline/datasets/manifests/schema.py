"""From JSON text to a `Manifest`: every mistake becomes a finding with its place and the nearest valid name."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast

from pipeline.datasets.manifests.manifest import SCHEMA_VERSION, SPLITS, Case, Manifest, Split, split_fragment
from pipeline.datasets.manifests.schema_fields import FieldReader, is_kind
from pipeline.datasets.manifests.strict_json import parse_json
from pipeline.issues import Issue

# Allowed values of each choice, the default first.
_CHOICES = {
    "spacing_policy": ("none", "header"),
    "stacking": ("slices", "channels", "series"),
    "mask_type": ("semantic", "instance"),
}
_NUMBERS = (int, float)
# Type of each fact, as a text for messages and in Python, for lists that of their items.
_FACTS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    **{"shape": ("a list of numbers", int), "spacing": ("a list of numbers", _NUMBERS)},
    **{"foreground": ("an integer", int), "frame": ("an integer", int)},
    "voxels": ("a JSON object", dict),
    **dict.fromkeys(("dtype", "group", "sequence"), ("a text", str)),
}
_REQUIRED = ("schema_version", "name", "task", "licence", "source", "labels", "mask_values", "channels", "cases")
_OPTIONAL = (
    *("layout", "citations", "spacing_policy", "named_splits", "stacking", "mask_type", "binarize", "color_map"),
    *("ignore_index", "intensity_range", "coco"),
)
_CASE_REQUIRED = ("case_id", "image", "split")
_CASE_OPTIONAL = ("subject", "label", "fold", "facts")
# Half a character, which JSON can contain but file names cannot.
_SURROGATE = re.compile("[\ud800-\udfff]")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MISSING = object()


def parse_manifest(content: bytes, root: Path | None = None) -> tuple[Manifest | None, list[Issue]]:
    """Read the JSON text of a manifest, UTF-8 with or without a byte order mark.

    With ``root``, the dataset's folder, absolute paths inside it are read as relative ones, with a warning.

    Returns:
        The manifest, or None if an error was found; and all findings: ``manifest-syntax`` with line and column,
        ``manifest-schema`` and ``id-type`` with the place (``cases[12].label``), ``path-escape``, ``path-absolute``,
        ``backslash-path``, ``split`` for an unknown one.
    """
    data, issues = parse_json(content)
    if issues:
        return None, issues
    reader = _SchemaReader(root)
    manifest = reader.manifest(data)
    has_error = any(issue.severity == "error" for issue in reader.issues)
    return (None if has_error else manifest), reader.issues


class _SchemaReader(FieldReader):
    """Walks the parsed JSON and collects findings instead of stopping at the first."""

    def __init__(self, root: Path | None) -> None:
        super().__init__()
        self.root = root

    def manifest(self, data: Any) -> Manifest | None:
        if not isinstance(data, dict):
            self.wrong("manifest", "a JSON object", data)
            return None
        version = data.get("schema_version")
        if isinstance(version, int) and not isinstance(version, bool) and version > SCHEMA_VERSION:
            message = f"schema version {version} is newer than {SCHEMA_VERSION}, the newest that this program knows"
            self.add("manifest-schema", message, "schema_version", "update the program")
            return None
        self.check_keys(data, "", _REQUIRED, _OPTIONAL)
        self.get(data, "schema_version", "", int)
        cases = self.get(data, "cases", "", list)
        texts: dict[str, Any] = {
            **{key: self.get(data, key, "", str) for key in ("name", "task", "licence", "source", "layout")},
            **{key: self.choice(data, key, "", allowed) for key, allowed in _CHOICES.items()},
        }
        return Manifest(
            **texts,
            labels=self.integer_keys(data, "labels", str),
            mask_values=self.integer_keys(data, "mask_values", int),
            channels=self.texts(data, "channels", ""),
            cases=tuple(self._case(entry, f"cases[{index}]") for index, entry in enumerate(cases)),
            **self._mask_rules(data),
            named_splits=self._named_splits(data),
            citations=self.texts(data, "citations", ""),
        )

    def _case(self, entry: Any, place: str) -> Case:
        if not isinstance(entry, dict):
            self.wrong(place, "a JSON object", entry)
            entry = {}
        else:
            self.check_keys(entry, place, _CASE_REQUIRED, _CASE_OPTIONAL)
        digests: dict[str, str] = {}
        image = self._files(entry, "image", place, digests)
        label = self._files(entry, "label", place, digests) if entry.get("label") is not None else None
        fold = self.get(entry, "fold", place, int) if entry.get("fold") is not None else None
        if fold is not None and fold < 0:
            self.wrong(f"{place}.fold", "an integer from 0", fold)
        return Case(
            case_id=self._identifier(entry, "case_id", place),
            subject=self._identifier(entry, "subject", place),
            image=image,
            label=label,
            split=cast("Split", self.choice(entry, "split", place, SPLITS, code="split")),
            fold=fold,
            sha256=digests,
            facts=self._facts(entry, place),
        )

    def _files(self, entry: Mapping[str, Any], key: str, place: str, digests: dict[str, str]) -> tuple[str, ...]:
        value = entry.get(key, [])
        items = value if isinstance(value, list) else [value]
        if key in entry and not items:
            self.wrong(f"{place}.{key}", "at least one file", value)
        paths = []
        for index, item in enumerate(items):
            here = f"{place}.{key}[{index}]" if isinstance(value, list) else f"{place}.{key}"
            path, digest = item, None
            if isinstance(item, dict):
                self.check_keys(item, here, ("path",), ("sha256",))
                path, digest = item.get("path", ""), item.get("sha256")
            if not isinstance(path, str) or not path or _SURROGATE.search(path):
                self.wrong(here, "a path relative to the dataset's folder", path)
                continue
            path = self._inside(path, here)
            paths.append(path)
            if digest is not None and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
                self.wrong(f"{here}.sha256", "64 lower-case hexadecimal digits", digest)
            elif digest is not None:
                digests[split_fragment(path)[0]] = digest
        return tuple(paths)

    def _inside(self, path: str, place: str) -> str:
        """Return the path in POSIX form; a path that leaves the dataset's folder is a finding."""
        if "\\" in path:
            message = f"{path!r} has backslashes, read as {path.replace(chr(92), '/')!r}"
            self.add("backslash-path", message, place, "write / in manifests", severity="warning")
            path = path.replace("\\", "/")
        inside = _find_inside(path, self.root)
        if inside:
            message = f"{path!r} is absolute, read as {inside!r}"
            hint = "write it relative to the dataset's folder: it will be found on other machines too"
            self.add("path-absolute", message, place, hint, severity="warning")
            path = inside
        if _leaves_root(path):
            message = f"{path!r} leaves the dataset's folder"
            self.add("path-escape", message, place, "write a path relative to the dataset's folder, without '..'")
        return path

    def _identifier(self, entry: Mapping[str, Any], key: str, place: str) -> str:
        value = entry.get(key, _MISSING)
        if value is _MISSING:
            return ""
        if not isinstance(value, str):
            self.add("id-type", f"{key} is {value!r}, not a text", f"{place}.{key}", f'quote it: "{value}"')
            return str(value)
        # An empty subject means "unknown"; an empty case id is an error.
        if (not value.strip() and key != "subject") or not (value.isprintable() or not value):
            self.wrong(f"{place}.{key}", "a text of printable characters", value)
        elif key == "case_id" and _leaves_root(value):
            # The id names output folders, so it must not lead out of them.
            self.add("path-escape", f"{key} {value!r} would leave the output folder", f"{place}.{key}")
        return value

    def _facts(self, entry: Mapping[str, Any], place: str) -> dict[str, Any]:
        facts: dict[str, Any] = self.get(entry, "facts", place, dict)
        here = f"{place}.facts"
        self.check_keys(facts, here, (), tuple(_FACTS))
        for key, (wanted, kind) in _FACTS.items():
            value = facts.get(key)
            if value is None:
                continue
            if wanted.startswith("a list"):
                fits = isinstance(value, list) and all(is_kind(item, kind) for item in value)
            else:
                fits = is_kind(value, kind)
            if not fits:
                self.wrong(f"{here}.{key}", f"{wanted} or null", value)
            self.require_showable(value, f"{here}.{key}")
        if isinstance(facts.get("voxels"), dict):
            self.integer_keys(facts, "voxels", int, place=here)
        return facts

    def _named_splits(self, data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        named = self.get(data, "named_splits", "", dict)
        result = {}
        for name, split in named.items():
            place = f"named_splits.{name}"
            # The name is typed as --fold NAME, where MONAI would run a text that begins with one of these.
            if not name.isprintable() or name[:1] in ("", "$", "@", "%"):
                self.wrong(place, "a printable name that does not begin with $, @ or %", name)
            if not isinstance(split, dict):
                self.wrong(place, "a JSON object", split)
                continue
            self.check_keys(split, place, ("val",), ("description", "exclude"))
            description = self.get(split, "description", place, str)
            result[name] = {"description": description, "val": list(self.texts(split, "val", place))}
            if split.get("exclude") is not None:
                result[name]["exclude"] = list(self.texts(split, "exclude", place))
        return result

    def _mask_rules(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Read the optional keys about the values of masks and images."""
        colours = self.get(data, "color_map", "", dict)
        for name, value in colours.items():
            if not _COLOUR.fullmatch(name) or not is_kind(value, int):
                self.wrong(f"color_map.{name}", "#rrggbb as key and a label id as value", {name: value})
        if data.get("binarize") is not None and not is_kind(data["binarize"], _NUMBERS):
            self.wrong("binarize", "a number", data["binarize"])
        if data.get("ignore_index") is not None:
            self.get(data, "ignore_index", "", int)
        return {
            "binarize": data.get("binarize"),
            "color_map": {name.lower(): value for name, value in colours.items()},
            "ignore_index": data.get("ignore_index"),
            "intensity_range": self._intensity_range(data),
            "coco": self._coco(data),
        }

    def _intensity_range(self, data: Mapping[str, Any]) -> tuple[float, float] | None:
        if data.get("intensity_range") is None:
            return None
        span = self.get(data, "intensity_range", "", list, "a list of two numbers")
        if not (len(span) == 2 and all(is_kind(item, _NUMBERS) for item in span) and span[0] < span[1]):
            if span:
                self.wrong("intensity_range", "the smallest and the largest value", span)
            return None
        return span[0], span[1]

    def _coco(self, data: Mapping[str, Any]) -> dict[str, Any] | None:
        if data.get("coco") is None:
            return None
        entry: dict[str, Any] = self.get(data, "coco", "", dict)
        self.check_keys(entry, "coco", ("categories", "crowd"), ("orientation", "turned"))
        self.integer_keys(entry, "categories", int, place="coco", wanted="a label id")
        self.choice(entry, "crowd", "coco", ("ignore", "merge"))
        self.choice(entry, "orientation", "coco", ("displayed", "stored"))
        for path, tag in self.get(entry, "turned", "coco", dict).items():
            if not is_kind(tag, int) or not 2 <= tag <= 8:
                self.wrong(f"coco.turned.{path}", "an EXIF orientation from 2 to 8", tag)
        return dict(entry)


def _find_inside(path: str, root: Path | None) -> str:
    """Return an absolute path relative to the dataset's folder, "" if it is relative or lies elsewhere."""
    if root is None or not path.startswith("/"):
        return ""
    try:
        relative = PurePosixPath(path).relative_to(PurePosixPath(root))
    except ValueError:
        return ""
    return "" if str(relative) == "." else str(relative)


def _leaves_root(path: str) -> bool:
    windows = PureWindowsPath(path)
    return "\0" in path or bool(windows.drive or windows.root) or ".." in PurePosixPath(path).parts
