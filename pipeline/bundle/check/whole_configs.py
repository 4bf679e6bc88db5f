"""Check configs as wholes: keys, references, expressions, classes and their arguments."""

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.bundle.configs import Config, find_references, list_texts
from pipeline.bundle.overrides.ids import MISSING, is_remark, look_up
from pipeline.bundle.overrides.overrides import Overrides
from pipeline.bundle.overrides.suggestions import is_complete
from pipeline.issues import Issue

# What MONAI runs, besides `run` itself.
_ACTIONS = ("initialize", "run", "finalize")
# What MONAI says where the parent of a key, or what it should be merged with, does not exist.
_NO_PLACE = (KeyError, IndexError, ValueError, TypeError, UserWarning)
_BROKEN = ("broken-expression", "unknown-reference", "circular-reference")


@dataclass(frozen=True)
class Configs:
    """The configs of a bundle by file name.

    Example:
        >>> configs = Configs({"train.json": {"bundle_root": ".", "run": [], "lr": 1}, "fast.json": {"lr": 2}})
        >>> configs.complete, configs.find_bases("fast.json")
        (['train.json'], [('train.json',)])
    """

    content: Mapping[str, Config] = field(default_factory=dict)  #: without metadata
    _merged: dict[tuple[str, ...], Config] = field(default_factory=dict, init=False)

    @property
    def complete(self) -> list[str]:
        """The files that run alone."""
        return [name for name, config in self.content.items() if is_complete(config)]

    def merge(self, *names: str) -> Config:
        """Return several files as MONAI merges them; keys whose parents do not exist are left out."""
        if names not in self._merged:
            self._merged[names] = _merge([self.content[name] for name in names])
        return self._merged[names]

    def find_bases(self, name: str) -> list[tuple[str, ...]]:
        """Return what an override is written for: the complete files, or those with the overrides that it needs.

        The fewer of its keys and references are unknown there, the better; equally good ones are all returned.
        """
        alone: list[tuple[str, ...]] = [(base,) for base in self.complete]
        lost = {base: self._count_lost(name, base) for base in alone}
        if min(lost.values(), default=0) > 0:
            others = [other for other in self.content if other != name and other not in self.complete]
            lost |= {(*base, other): self._count_lost(name, (*base, other)) for base in alone for other in others}
        least = min(lost.values(), default=0)
        best = [base for base in lost if lost[base] == least]
        return [base for base in best if len(base) == min(map(len, best))]

    def _count_lost(self, name: str, base: Sequence[str]) -> int:
        under, own = self.merge(*base), self.content[name]
        merged = self.merge(*base, name)
        nested = [key.removeprefix("+") for key in own if "#" in key or "::" in key or key.startswith("+")]
        wanted = {reference for _, text in list_texts(own) for reference in find_references(text)}
        used = {reference for _, text in list_texts(merged) for reference in find_references(text)}
        unused = [key for key in own if key not in under and key not in used and key not in nested]
        return (
            sum(look_up(merged, key) is MISSING for key in nested)
            + sum(look_up(merged, key) is MISSING for key in wanted)
            + sum(not is_remark(key) and not isinstance(own[key], dict) for key in unused)
        )


def _merge(contents: Sequence[Config]) -> Config:
    from monai.bundle import ConfigParser
    from monai.bundle.utils import merge_kv

    parser = ConfigParser({})
    for content in contents:
        for key, value in copy.deepcopy(dict(content)).items():
            with contextlib.suppress(*_NO_PLACE), warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # there is nothing to merge with
                merge_kv(parser, key, value)
    return dict(parser.get())


def check_config(config: Config, elsewhere: Mapping[str, Config]) -> list[Issue]:
    """Return what is wrong in a complete config.

    Args:
        config: the config, or several merged.
        elsewhere: config by name of the bundle's other files, for hints.

    Example:
        >>> [issue.message for issue in check_config({"lr": 1, "optimizer": {"lr": "@learning_rate"}}, {})]
        ["there is no id learning_rate that '@learning_rate' could refer to"]
    """
    issues: list[Issue] = []
    for issue in Overrides(config, config, elsewhere=elsewhere).find_issues():
        issues += _place(issue, config[issue.record]) if issue.code in _BROKEN else [issue]
    return [*issues, *_check_macros(config)]


def _place(issue: Issue, value: Any) -> Iterator[Issue]:
    """Give an issue about a text inside a value the id of that text."""
    name, found = issue.record, False
    for where, text in list_texts(value):
        if where and repr(text) in issue.message:
            found = True
            yield replace(issue, record=f"{name}#{where}", message=issue.message.removeprefix(f"{name}: "))
    if not found:
        yield replace(issue, message=issue.message.removeprefix(f"{name}: "))


def _check_macros(config: Config) -> Iterator[Issue]:
    for name, text in list_texts(config):
        lost = sorted(key for key in find_references(text) if look_up(config, key) is MISSING)
        if text.startswith("%") and lost and ".json" not in text and ".y" not in text:
            message = f"there is no id {lost[0]} that {text!r} could copy"
            yield Issue("unknown-reference", "error", message, name)


def check_override(configs: Configs, name: str) -> list[Issue]:
    """Return what is wrong in a file that changes a complete config, with each config that it is written for."""
    issues: list[Issue] = []
    for base in configs.find_bases(name):
        own = {key.removeprefix("+"): value for key, value in configs.content[name].items()}
        merged = configs.merge(*base, name)
        added = {key: look_up(merged, key) if f"+{key}" in configs.content[name] else own[key] for key in own}
        others = {file: other for file, other in configs.content.items() if file not in (*base, name)}
        used = {key for other in others.values() for _, text in list_texts(other) for key in find_references(text)}
        known = {(issue.code, issue.message) for issue in check_config(configs.merge(*base), {})}
        overrides = Overrides(configs.merge(*base), added, elsewhere=others, reserved=_ACTIONS, context=merged)
        for issue in overrides.find_issues():
            # A group of alternatives, such as losses, is used by what is typed.
            group = issue.record in used or isinstance(own.get(issue.record), dict)
            is_new = (issue.code, issue.message.removeprefix(f"{issue.record}: ")) not in known
            if is_new and (issue.code != "unknown-key" or not group):
                issues.append(issue)
    return issues
