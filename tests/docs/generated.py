"""What the code writes: ``python -m tests.docs.generated`` (``make docs``) renews it.

That is the manifests and the versions of packages in the bundles, and parts of the documents. Each part stands between
``<!-- generated: NAME -->`` and ``<!-- end of NAME -->``; a test compares it with the code.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.bundle.audit.codes import CODES
from pipeline.bundle.formatting import format_config
from pipeline.commands.cli import COMMANDS, build_parser
from tests.clients.rows import render_clients
from tests.docs.benchmarks import render_benchmarks, renew_charts
from tests.docs.markdown import ROOT
from tests.docs.results import list_scored, render_card, render_results, renew_scores, renew_table
from tests.test_rooms import ARROWS, DATASET_ARROWS, DATASET_GROUND, GROUND

_PATH = r"\$@bundle_root \+ '/([^']+)'"
# The manifests that a family's bundles carry as a copy; those of the other datasets are built by the user.
MANIFESTS = {"hippocampus": "hippocampus.json", "lgg": "lgg.json", "u373": "u373_time.json"}
CONFIGS = ("train.json", "evaluate.json", "inference.json", "refine.json")


def render_commands() -> str:
    """Return all commands with their arguments, as Markdown."""
    helps = {command.name: command for command in COMMANDS}
    parts = []
    for name, parser in _list_leaves(build_parser()):
        parts += [f"## pipeline {name}", ""]
        command = helps.get(name)
        text = command.help if command else parser.description or ""
        parts += [f"{text[:1].upper()}{text[1:]}.", "", *_render_usage(name, parser), *_render_arguments(parser)]
    return "\n".join(parts).rstrip()


def _list_leaves(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield name, parser
    for group in groups:
        for word, child in group.choices.items():
            yield from _list_leaves(child, f"{name} {word}".strip())


def _list_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.dest not in ("help", "debug")]


def _render_usage(name: str, parser: argparse.ArgumentParser) -> list[str]:
    """Return one line: what must be given, then what may be."""
    actions = _list_actions(parser)
    needed = [_spell(action) for action in actions if action.option_strings and action.required]
    groups = [group for group in parser._mutually_exclusive_groups if group.required]
    needed += [f"({' | '.join(map(_spell, group._group_actions))})" for group in groups]
    places = [_spell(action) for action in actions if not action.option_strings]
    more = " [OPTIONS]" if any(action.option_strings and not action.required for action in actions) else ""
    words = " ".join(["python -m pipeline", name, *places, *needed])
    return ["```text", f"{words}{more}", "```", ""]


def _render_arguments(parser: argparse.ArgumentParser) -> list[str]:
    rows = [f"| `{_escape(_spell(action))}` | {_describe(action)} |" for action in _list_actions(parser)]
    return ["| argument | meaning |", "|---|---|", *rows, ""] if rows else []


def _spell(action: argparse.Action) -> str:
    """Return an argument as it is typed; of two spellings of one option the first."""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    value = value if isinstance(value, str) else " ".join(value)
    value = {"*": f"[{value} ...]", "+": f"{value} [{value} ...]", "?": f"[{value}]"}.get(str(action.nargs), value)
    if not action.option_strings:
        return value
    option = action.option_strings[0]
    return option if action.nargs == 0 else f"{option} {value}"


def _describe(action: argparse.Action) -> str:
    text = (action.help or "") % {"default": action.default, "prog": "pipeline"}
    return _escape(text).replace("<", "&lt;").replace("*", "\\*")


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def render_arrows() -> str:
    """Return which room may import which, for `ARCHITECTURE.md`."""
    lines = ["every room     -> " + ", ".join(sorted(GROUND - {"pipeline"})), ""]
    lines += _render_table(ARROWS)
    lines += ["", "inside datasets, where every room may import " + ", ".join(sorted(DATASET_GROUND)) + ":", ""]
    lines += _render_table(DATASET_ARROWS)
    return "\n".join(["```text", *lines, "```"])


def _render_table(arrows: Mapping[str, set[str]]) -> list[str]:
    width = max(map(len, arrows))
    return [f"{room:<{width}} -> {', '.join(sorted(others))}" for room, others in arrows.items()]


def render_defaults() -> str:
    """Return the settings of all bundles with their defaults, for `docs/reference/configs.md`."""
    parts = []
    for file in CONFIGS:
        values: dict[str, dict[str, list[str]]] = {}
        for bundle in sorted(ROOT.glob("bundles/*/configs/metadata.json")):
            if "phantom" in json.loads(bundle.read_text(encoding="utf-8")) and (bundle.parent / file).is_file():
                for key, value in read_settings(bundle.parent / file).items():
                    text = re.sub(_PATH, r"<bundle_root>/\1", json.dumps(value, ensure_ascii=False))
                    text = text.replace(f'"output/{bundle.parents[1].name}', '"output/<bundle>')
                    values.setdefault(key, {}).setdefault(text, []).append(bundle.parents[1].name)
        parts += [f"### Defaults of `{file}`", "", "| setting | default |", "|---|---|"]
        parts += [f"| `{key}` | {_join(found)} |" for key, found in values.items()] + [""]
    return "\n".join(parts).rstrip()


def _join(found: Mapping[str, list[str]]) -> str:
    if len(found) == 1:
        text, bundles = next(iter(found.items()))
        return f"`{text}`" + ("" if len(bundles) == _count_bundles() else f" ({', '.join(_group(bundles))})")
    return "; ".join(f"`{text}` ({', '.join(_group(bundles))})" for text, bundles in found.items())


def _count_bundles() -> int:
    return sum(1 for path in ROOT.glob("bundles/*/configs/metadata.json") if "phantom" in path.read_text("utf-8"))


def _group(bundles: list[str]) -> list[str]:
    """Return names, a whole family as ``isic_*``."""
    names = [path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json")]
    families = dict.fromkeys(name.partition("_")[0] for name in bundles)
    result = []
    for family in families:
        members = [name for name in names if name.partition("_")[0] == family]
        mine = [name for name in bundles if name.partition("_")[0] == family]
        result += [f"`{family}_*`"] if len(members) > 1 and len(mine) == len(members) else [f"`{n}`" for n in mine]
    return result


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a config: top-level ids before the device whose value is no object of the run."""
    config = json.loads(path.read_text(encoding="utf-8"))
    skipped = {
        "imports",
        "bundle_root",
        "_desc_",
        "device",
        "network",
        "loss",
        "refine",
        "to_probabilities",
        "save",
        "run",
    }
    return {
        key: value
        for key, value in config.items()
        if key not in skipped and "#" not in key and not isinstance(value, dict) and not _is_list_of_objects(value)
    }


def _is_list_of_objects(value: object) -> bool:
    if not isinstance(value, list):
        return False
    return any(isinstance(item, dict) or (isinstance(item, str) and item.startswith("$")) for item in value)


def render_codes() -> str:
    """Return the codes of the audit, for `docs/reference/audit.md`."""
    rows = [f"| `{name}` | {code.level} | {code.meaning} | {code.todo} |" for name, code in CODES.items()]
    return "\n".join(["| code | level | meaning | what to do |", "|---|---|---|---|", *rows])


PARTS: dict[str, tuple[str, Callable[[], str]]] = {
    "commands": ("docs/reference/commands.md", render_commands),
    "arrows": ("ARCHITECTURE.md", render_arrows),
    "audit codes": ("docs/reference/audit.md", render_codes),
    "defaults": ("docs/reference/configs.md", render_defaults),
    "results": ("docs/results.md", render_results),
    "benchmarks": ("docs/benchmarks.md", render_benchmarks),
    "clients": ("docs/reference/clients.md", render_clients),
    **{
        f"scores of {bundle}": (f"bundles/{bundle}/docs/README.md", partial(render_card, bundle))
        for bundle in list_scored()
    },
}


def replace_part(text: str, name: str, content: str) -> str:
    """Return a document with a new generated part."""
    start, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", flags=re.DOTALL)
    assert pattern.search(text), f"no part {name}"
    return pattern.sub(lambda _: f"{start}\n{content}\n{end}", text)


def copy_manifests(root: Path) -> list[Path]:
    """Give every bundle of a repository the manifest of its family; returns the copies that are new."""
    renewed = []
    for family, name in MANIFESTS.items():
        content = (root / "data_manifests" / name).read_bytes()
        for configs in root.glob(f"bundles/{family}_*/configs"):
            copy = configs / "manifest.json"
            if not copy.is_file() or copy.read_bytes() != content:
                copy.write_bytes(content)
                renewed.append(copy)
    return renewed


def renew_pins(root: Path) -> list[Path]:
    """Write the versions of `constraints.txt` and of this package into the metadata; returns the files that changed."""
    text = (root / "constraints.txt").read_text(encoding="utf-8")
    tested = dict(re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.MULTILINE)) | {
        "monai-segmentation-suite": __version__
    }
    renewed = []
    for path in root.glob("bundles/*/configs/metadata.json"):
        metadata = json.loads(path.read_text(encoding="utf-8"))
        pins = {name: tested[name] for name in metadata["required_packages_version"]}
        if "phantom" in metadata and pins != metadata["required_packages_version"]:
            path.write_text(format_config({**metadata, "required_packages_version": pins}), encoding="utf-8")
            renewed.append(path)
    return renewed


def main() -> None:
    """Renew all generated parts, and in the bundles the manifests and the versions of packages."""
    for path in (*copy_manifests(ROOT), *renew_pins(ROOT), *renew_scores(ROOT), *renew_table(ROOT), *renew_charts()):
        print(f"{path.relative_to(ROOT)} renewed")
    for name, (document, render) in PARTS.items():
        path = ROOT / document
        text = path.read_text(encoding="utf-8")
        changed = replace_part(text, name, render())
        if changed != text:
            path.write_text(changed, encoding="utf-8")
            print(f"{document}: {name} renewed")


if __name__ == "__main__":
    main()
