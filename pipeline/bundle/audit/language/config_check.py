"""Judge every value of a config: classes, modes, expressions, references, macros, arguments that load something."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from pipeline.bundle.audit.allowances import COVERED
from pipeline.bundle.audit.finding import Finding, make_finding, shorten
from pipeline.bundle.audit.language.config_items import (
    SEPARATOR,
    BundleIds,
    Item,
    blur_numbers,
    list_items,
    make_absolute,
)
from pipeline.bundle.audit.language.constant_limits import ADDRESS, MOST_CHARACTERS, names_standard_module
from pipeline.bundle.audit.language.expression_check import (
    LOADS_CLASSES,
    NAMING_ARGUMENTS,
    judge_expression,
    put_references,
)
from pipeline.bundle.audit.language.import_check import judge_import, read_import
from pipeline.bundle.audit.language.macro_files import find_files, read_macro_file
from pipeline.bundle.audit.language.target_policy import judge_target
from pipeline.bundle.audit.word_list import read_words

# Readers that MONAI knows besides its classes.
_READERS = read_words("pydicomreader itkreader nrrdreader numpyreader pilreader nibabelreader nvimgcodecreader")
_MOST_FINDINGS = 200


class ConfigCheck:
    """The check of one bundle's configs.

    Args:
        ids: of all its configs.
        files: paths of all its files, which macros may read.
    """

    def __init__(self, ids: BundleIds, files: Mapping[str, int]) -> None:
        self.ids = ids
        self.files = files
        self.keys: dict[str, Callable[[Item], Iterator[Finding]]] = {
            "_target_": self._check_target,
            "_mode_": self._check_mode,
            "_debug_": self._check_mode,
            "allow_pickle": self._check_unsafe,
            "weights_only": self._check_unsafe,
            "pretrained": self._check_download,
        }

    def check(self, file: str, data: Any) -> Iterator[Finding]:
        """Yield the findings of a config: of many reviews only some of each code, of many errors the first.

        Args:
            file: path within the bundle.
            data: what it holds.
        """
        number = errors = hidden = 0
        seen = set()
        for item in list_items(file, data):
            for finding in self._check_item(item):
                number += 1
                errors += finding.level == "error"
                # An allow-list covers a code in a file, so that no code may be hidden altogether.
                if finding.level == "error" or number <= _MOST_FINDINGS or (finding.code, finding.level) not in seen:
                    seen.add((finding.code, finding.level))
                    yield finding
                else:
                    hidden += finding.level == "review"
            if errors >= _MOST_FINDINGS:
                why = f"{errors} errors; what comes after this place was not judged"
                yield make_finding("config-too-large", file, item.place, why, todo="mend these first")
                return
        if hidden:
            why, todo = f"{hidden} more findings of the kinds in this list", "read the whole config"
            yield make_finding("config-too-large", file, "", why, todo=todo, level="review")

    def _check_item(self, item: Item) -> Iterator[Finding]:
        if isinstance(item.value, dict):
            yield from _check_keys(item)
        if item.key in self.keys:
            yield from self.keys[item.key](item)
        if item.argument in NAMING_ARGUMENTS and not isinstance(item.parent, list):  # a list is judged as a whole
            yield from self._check_named_class(item)
        if isinstance(item.value, str):
            yield from self._check_text(item)

    def _is_argument(self, item: Item) -> bool:
        """Whether it is given to a class or function, as far as the bundle shows."""
        parent = item.place.rpartition(SEPARATOR)[0]
        if SEPARATOR in parent or (isinstance(item.parent, dict) and "_target_" in item.parent):
            return True
        # In "net#norm" another place gives the class; a known object without any is just a collection of values.
        is_plain = parent in self.ids.values and f"{parent}{SEPARATOR}_target_" not in self.ids.values
        return bool(parent) and (not is_plain or self.ids.is_computed(item.place))

    def _check_text(self, item: Item) -> Iterator[Finding]:
        try:
            text = make_absolute(item.place, item.value)
        except ValueError:
            yield make_finding("reference-outside", item.file, item.place, shorten(item.value))
            return
        if text.startswith("%"):
            yield from self._check_macro(item, text[1:])
        elif text.startswith("$"):
            yield from self._check_expression(item, text[1:])
        elif text.startswith("@"):
            known = re.fullmatch(r"@\w*(?:::\w*)*", text)
            yield from self._check_reference(item, text[1:]) if known else ()
        elif not item.is_setting or item.key == "_target_":
            return
        elif names_standard_module(text.strip(". ")):
            yield make_finding(
                "expression-review", item.file, item.place, f"the text {shorten(text)} names one of Python's modules"
            )
        elif ADDRESS.match(text) and self._is_argument(item):
            yield make_finding("url-in-config", item.file, item.place, shorten(text))

    def _check_expression(self, item: Item, text: str) -> Iterator[Finding]:
        if len(text) > MOST_CHARACTERS:
            why = f"{len(text)} characters, more than {MOST_CHARACTERS}"
            yield make_finding("expression-size", item.file, item.place, why)
            return
        if "__local_refs" in unicodedata.normalize("NFKC", text):  # as Python reads names
            yield make_finding("expression-name", item.file, item.place, f"__local_refs: {shorten(item.value)}")
        put, references = put_references(text)
        node = read_import(item.value[1:]) or read_import(put)
        if node is not None:
            verdict = judge_import(node, self.ids.names)
            if verdict.code:
                code = "expression-review" if verdict.code == "target-review" else verdict.code
                yield make_finding(code, item.file, item.place, verdict.why)
            return
        for verdict in judge_expression(put, self.ids.names):
            why = re.sub(r"__local_refs\['([\w:]*)'\]", r"@\1", verdict.why)
            why = why if why in item.value or verdict.code == "expression-review" else f"{why}: {shorten(item.value)}"
            yield make_finding(verdict.code, item.file, item.place, why)
        for reference in references:
            yield from self._check_reference(item, reference)

    def _check_reference(self, item: Item, place: str) -> Iterator[Finding]:
        if blur_numbers(place) in self.ids.imports:
            yield make_finding("reference-import", item.file, item.place, f"@{place}".replace(SEPARATOR, "#"))
        elif not self.ids.has(place):
            near = self.ids.find_near(place).replace(SEPARATOR, "#")
            why = f"no id {place.replace(SEPARATOR, '#')}"
            todo = f"did you mean {near}?" if near else "define it, or remove the reference"
            yield make_finding("reference-missing", item.file, item.place, why, todo=todo)

    def _check_macro(self, item: Item, text: str) -> Iterator[Finding]:
        path = read_macro_file(text)
        # In a copy MONAI resolves relative references again, by the place of the copy.
        if not re.fullmatch(r"[\w:. -]*", item.place):
            why = f"a macro copies to {shorten(item.place)}, which would become part of the copied references"
            yield make_finding("ambiguous-key", item.file, item.place, why, todo="name it with letters and digits")
        source = text.rpartition(path)[2].removeprefix(SEPARATOR) if path else text
        near = not path and source.rpartition(SEPARATOR)[0] == item.place.rpartition(SEPARATOR)[0]
        if not near and (blur_numbers(source) in self.ids.torn or (self.ids.torn and self.ids.is_computed(source))):
            why = f"{shorten(item.value)} may copy a relative reference, which would lead to another id"
            yield make_finding("reference-outside", item.file, item.place, why, todo="write the whole id")
        if not path:
            yield from self._check_reference(item, text)
            return
        outside = PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or path.startswith("~")
        if outside or ".." in re.split(r"[/\\]", path) or not any(find_files(path, self.files)):
            yield make_finding("macro-outside", item.file, item.place, shorten(item.value))
        else:
            yield make_finding("macro-file", item.file, item.place, shorten(item.value))

    def _check_target(self, item: Item) -> Iterator[Finding]:
        name = item.value
        if not isinstance(name, str) or name.startswith(("$", "@", "%")):
            yield make_finding("target-indirect", item.file, item.place, shorten(name))
            return
        verdict = judge_target(name, self.ids.names.own_modules)
        if verdict.code and name in self.ids.names.allowed:
            yield make_finding(verdict.code, item.file, item.place, verdict.why, todo=COVERED, level="note")
        elif verdict.code:
            yield make_finding(verdict.code, item.file, item.place, verdict.why)

    def _check_mode(self, item: Item) -> Iterator[Finding]:
        allowed = ("default", "callable") if item.key == "_mode_" else (False, None)
        if not any(item.value is known or (isinstance(known, str) and item.value == known) for known in allowed):
            yield make_finding("mode-debug", item.file, item.place, shorten(item.value))
        elif item.value == "callable":
            base = item.place.removesuffix(item.key)
            targets = [str(name).rpartition(".")[2] for name in self.ids.values.get(f"{base}_target_", ())]
            fixed = any(f"{base}{name}" in self.ids.values for name in NAMING_ARGUMENTS)
            # An expression could call it with the name of another class.
            if not fixed and any(map(LOADS_CLASSES.fullmatch, targets)):
                yield make_finding(
                    "named-class", item.file, item.place, f"{targets[0]} without a reader or writer of its own"
                )

    def _check_unsafe(self, item: Item) -> Iterator[Finding]:
        safe = item.key == "weights_only"
        if item.value is not safe:
            yield make_finding("unsafe-argument", item.file, item.place, f"{item.key}: {shorten(item.value)}")

    def _check_download(self, item: Item) -> Iterator[Finding]:
        if item.value not in (False, None) and self._is_argument(item):
            yield make_finding("download-argument", item.file, item.place, f"{item.key}: {shorten(item.value)}")

    def _check_named_class(self, item: Item) -> Iterator[Finding]:
        if self._is_argument(item):
            for value in item.value if isinstance(item.value, list) else [item.value]:
                if not self._names_allowed_class(value, item.place):
                    yield make_finding("named-class", item.file, item.place, f"{item.argument}: {shorten(value)}")

    def _names_allowed_class(self, value: Any, place: str, depth: int = 8) -> bool:
        if value is None or (isinstance(value, dict) and "_target_" in value):
            return True
        if not isinstance(value, str) or not depth:
            return False
        if value.startswith("$"):
            # A class by its name; what it is, the check of expressions has judged.
            return bool(re.fullmatch(r"\$[\w.]+", value)) and "Load" not in value
        if value.startswith("@"):
            try:
                name = make_absolute(place, value)[1:]
            except ValueError:
                return False
            values = [] if self.ids.is_computed(name) else self.ids.list_elements(name)
            named = [other for other in values if not isinstance(other, list)]
            return bool(named) and all(self._names_allowed_class(name, place, depth - 1) for name in named)
        if value in self.ids.names.allowed or value.lower() in _READERS:
            return True
        return judge_target(value, self.ids.names.own_modules).code in ("", "bundle-code")


def _check_keys(item: Item) -> Iterator[Finding]:
    """Yield keys that make two places one, and keys that would run if a client took them for values."""
    for key in item.value:
        name = str(key)
        if item.place and ("#" in name or SEPARATOR in name):
            yield make_finding("ambiguous-key", item.file, f"{item.place}{SEPARATOR}{name}", shorten(name))
        elif name[:1] in ("$", "%") and name != "$schema":
            yield make_finding("ambiguous-key", item.file, item.place, f"the key {shorten(name)} begins with {name[0]}")
