"""Check what a command line changes in a config: keys, values, references, and the arguments of classes."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pipeline.bundle.configs import Config, find_references, list_texts
from pipeline.bundle.overrides.expectations import Expectations, resolve
from pipeline.bundle.overrides.ids import MISSING, apply_values, is_object, is_remark, list_ids, look_up, split_id
from pipeline.bundle.overrides.literals import (
    find_unknown_names,
    is_import,
    keep_texts,
    make_literal,
    parse_expression,
    read_reference,
)
from pipeline.bundle.overrides.objects import check_object, list_touched
from pipeline.bundle.overrides.repairs import read_value
from pipeline.bundle.overrides.signatures import Targets
from pipeline.bundle.overrides.suggestions import find_nearest, suggest_key, suggest_object
from pipeline.issues import Issue


@dataclass(frozen=True)
class Overrides:
    """What is changed in a config, and what is wrong with that.

    Example:
        >>> overrides = Overrides({"learning_rate": 0.001}, {"learning_rat": 0.5})
        >>> [(issue.message, issue.hint) for issue in overrides.find_issues()]
        [('unknown key learning_rat', 'did you mean learning_rate?')]
        >>> Overrides({"path": "runs/a", "resume": False}, {"path": 2024, "resume": "true"}).read_values()
        {'path': '2024', 'resume': True}
    """

    base: Config  #: the configs that are named, merged in their order
    values: Mapping[str, Any]  #: value by id, as the command line's parser reads them
    words: Mapping[str, str] = field(default_factory=dict)  #: the same as they were typed, where that is known
    elsewhere: Mapping[str, Config] = field(default_factory=dict)  #: config by name of files that were not named
    reserved: Collection[str] = ()  #: arguments of the program itself, which are no ids
    context: Config = field(default_factory=dict)  #: the configs with all other changes, to which values may refer

    def read_values(self) -> dict[str, Any]:
        """Return the values that were meant, in a form that MONAI does not change."""
        return {name: keep_texts(value) for name, value in self.meant.items()}

    def find_issues(self) -> list[Issue]:
        """Return what is certainly wrong, in the order of the command line."""
        issues: list[Issue] = []
        for name in self.values:
            issues += list(self._check(name))
        return list({(issue.code, issue.record): issue for issue in issues}.values())

    @cached_property
    def _targets(self) -> Targets:
        return Targets()

    @cached_property
    def _expectations(self) -> Expectations:
        return Expectations(self._given, self.base, self._targets)

    @cached_property
    def _given(self) -> Config:
        return apply_values({**self.base, **self.context}, self.values)

    @cached_property
    def meant(self) -> dict[str, Any]:
        """The values that were meant, by id."""
        return {name: self._read(name, value) for name, value in self.values.items()}

    @cached_property
    def _merged(self) -> Config:
        return apply_values({**self.base, **self.context}, self.meant)

    @cached_property
    def _texts(self) -> list[str]:
        return [text for _, text in list_texts(self._merged)]

    @cached_property
    def _used(self) -> set[str]:
        return {reference for text in self._texts for reference in find_references(text)}

    def _read(self, name: str, value: Any) -> Any:
        expected = self._expectations.find(name)
        if is_object(value) or _is_free(name):
            return value
        if not isinstance(value, str) or not value.startswith(("$", "@", "%")):
            return read_value(value, self.words.get(name), expected)
        is_path = expected.is_text and os.path.exists(value)
        return make_literal(value) if is_path and _explain_code(value, self._given) else value

    def _check(self, name: str) -> Iterator[Issue]:
        unknown = self._check_key(name)
        if unknown is not None:
            yield unknown
            return
        value = self.meant[name]
        broken = list(self._check_code(name, value))
        yield from broken or self._check_value(name, value)
        for place, item in list_touched(self._merged, name):
            yield from check_object(place, item, self._targets)
            inside = [key for key in item if f"{place}#{key}".startswith(f"{'#'.join(split_id(name))}#")]
            for key in inside if not is_object(look_up(self.base, place)) or is_object(value) else ():
                yield from self._check_argument(f"{place}#{key}", item[key])

    def _check_key(self, name: str) -> Issue | None:
        *parents, last = split_id(name.removeprefix("+"))
        if look_up(self.base, name.removeprefix("+")) is not MISSING or name in self.reserved:
            return None
        if not parents:
            if is_remark(last) or last in self._used:
                return None
            hint = suggest_key(last, self.base, self.reserved, self.elsewhere)
            return Issue("unknown-key", "error", f"unknown key {last}", name, hint=hint)
        for end in range(1, len(parents) + 1):
            if look_up(self._merged, "#".join(parents[:end])) is MISSING:
                return self._refuse_part(name, parents[: end - 1], parents[end - 1])
        owner = look_up(self._merged, "#".join(parents))
        ids = {"#".join(split_id(name)[:end]) for end in range(1, len(parents) + 2)}
        fits = isinstance(owner, dict) and (is_object(owner) or is_remark(last) or bool(ids & self._used))
        return None if fits else self._refuse_part(name, parents, last)

    def _refuse_part(self, name: str, parents: list[str], part: str) -> Issue:
        owner = look_up(self._merged, "#".join(parents)) if parents else self._merged
        if isinstance(owner, list):
            hint = f"it has {len(owner)} items, from 0 to {len(owner) - 1}"
            return Issue("unknown-key", "error", f"{'#'.join(parents)} has no item {part}", name, hint=hint)
        if not isinstance(owner, dict):
            message = f"{'#'.join(parents)} is {owner!r}, which has no parts such as {part}"
            return Issue("unknown-key", "error", message, name, hint=f"to change it: --{'#'.join(parents)} VALUE")
        if not parents:
            hint = suggest_key(part, self.base, self.reserved, self.elsewhere)
        else:
            known = [key for key in owner if key != part]
            near = find_nearest(part, known, 0.5)
            hint = f"did you mean {near}?" if near else f"it has {', '.join(known)}"
        message = f"unknown key {part}" + (f" in {'#'.join(parents)}" if parents else "")
        return Issue("unknown-key", "error", message, name, hint=hint)

    def _check_code(self, name: str, value: Any) -> Iterator[Issue]:
        """Yield references and expressions that lead nowhere."""
        for where, text in list_texts(value):
            if read_reference(text) == "#".join(split_id(name)):
                yield Issue("circular-reference", "error", f"{name} refers to itself", name)
            elif not is_remark(where or name) and (reason := _explain_code(text, self._merged)):
                code = "unknown-reference" if text.startswith("@") else "broken-expression"
                yield Issue(code, "error", f"{name}: {reason}", name, hint=self._suggest_code(name, text))

    def _suggest_code(self, name: str, text: str) -> str:
        if self._expectations.find(name).is_text:
            return f"""for a file or folder of that name, type --{name} './{text}'"""
        reference = read_reference(text)
        files = [file for file, other in self.elsewhere.items() if look_up(other, reference) is not MISSING]
        if files:
            return f"it is in {files[0]}, which --config_file does not name"
        for file, other in {"": self._merged, **self.elsewhere}.items():
            near = find_nearest(reference, [place for place, _ in list_ids(other)], 0.6)
            if near:
                return f"did you mean @{near}{f', with {file} in --config_file' if file else ''}?"
        return ""

    def _check_value(self, name: str, value: Any) -> Iterator[Issue]:
        value = resolve(self._merged, value)
        if name in self.reserved or _is_free(name) or (isinstance(value, str) and value.startswith(("$", "%"))):
            return
        expected = self._expectations.find(name)
        got = repr(self.words.get(name, self.values[name]))
        if not expected.allows(value) and not (is_object(value) and not is_object(expected.default)):
            hint = ""
            if is_object(expected.default):
                hint = suggest_object(value, self._merged, self.elsewhere, self._targets, name)
            yield Issue("wrong-value", "error", f"{name} expects {expected.describe()}, got {got}", name, hint=hint)
        elif not expected.keeps_limits(value) and expected.limits:
            low, high = expected.limits
            span = f"a number from {low:g}" + (f" to {high:g}" if high < float("inf") else "")
            yield Issue("wrong-value", "error", f"{name} expects {span}, got {got}", name)

    def _check_argument(self, place: str, value: Any) -> Iterator[Issue]:
        """Check an argument of an object that was given as a whole."""
        expected = self._expectations.find(place)
        plain = not isinstance(value, dict) and not (isinstance(value, str) and value.startswith(("$", "@", "%")))
        if plain and not is_remark(place) and not expected.allows(value):
            yield Issue("wrong-value", "error", f"{place} expects {expected.describe()}, got {value!r}", place)


def describe_first(issues: Sequence[Issue]) -> str:
    """Return the first finding in one line, and how many more there are.

    Example:
        >>> describe_first([Issue("unknown-key", "error", "unknown key lr", hint="did you mean rate?")] * 2)
        'unknown key lr; did you mean rate? (and 1 more)'
    """
    line = "; ".join(filter(None, (issues[0].message, issues[0].hint)))
    return line + (f" (and {len(issues) - 1} more)" if len(issues) > 1 else "")


def _is_free(name: str) -> bool:
    """Return whether an id takes anything: MONAI's own words, but for the one that switches a part off."""
    return is_remark(name) and split_id(name)[-1] != "_disabled_"


def _explain_code(text: str, config: Config) -> str:
    """Return why a text is neither a plain one nor a reference or expression that can be evaluated; "" if it is."""
    reference = read_reference(text)
    if reference and look_up(config, reference) is MISSING:
        return f"there is no id {reference} that {text!r} could refer to"
    if not text.startswith("$") or is_import(text):
        return ""
    tree = parse_expression(text)
    if tree is None:
        return f"{text!r} is no expression of Python, for which $ stands"
    names = find_unknown_names(tree, (other for _, other in list_texts(config)))
    references = sorted(name for name in find_references(text) if look_up(config, name) is MISSING)
    if references:
        return f"there is no id {references[0]}, to which {text!r} refers"
    return f"nothing defines {names[0]} in the expression {text!r}" if names else ""
