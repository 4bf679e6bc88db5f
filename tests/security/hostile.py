"""Names that attack a reader, a trap that a name springs, and MONAI's own readers of a bundle."""

from __future__ import annotations

import contextlib
import io
import json
import unicodedata
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow, load_bundle_config

from pipeline.commands.cli import main

# Module that springs the trap when it is imported, and file that springs it when a macro reads it.
MODULE, FILE = "canary", "canary.json"
NAMES = (
    # MONAI's configs: expressions, references, macros, relative references, keys, ids, merge keys
    *(f"$import {MODULE}", f"$from {MODULE} import sing", f"$__import__('{MODULE}')", f" $__import__('{MODULE}').sing"),
    *(f"\t$import {MODULE}  ", f"$$import {MODULE}", f"@{MODULE}", "@network_def", "@_meta_::name", "@##name"),
    *("x@###name y", f"%{FILE}::key", f"%{FILE}#key", "%_meta_", "100%##x", "%canary.yaml::key", "%run"),
    *("_target_", "_requires_", "_disabled_", "_mode_", "_desc_", "_meta_", "__class__", "+train", "~train"),
    *("train#dataset", "train::dataset::data", "network", "null"),
    # templates, formats, shells, YAML
    *("{{ 7*7 }}{% include 'canary' %}", "{0.__class__.__init__.__globals__}", "%(asctime)s %s %d"),
    *("${HOME} $(touch hit) `touch hit`", "'; touch hit #", "!!python/object/apply:os.system [touch hit]"),
    # pages, tables, spreadsheets
    *("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[click](javascript:alert(1))", "![x](http://x.y/z)"),
    *("a | b", "\"quoted\" 'single' \\", "**bold** _slanted_ ~~gone~~ $x^2$", "# heading", "&lt;b&gt;"),
    *("=HYPERLINK(\"http://x.y\")", "+1-2", "-1+2", "@SUM(1)", "../../outside", "x" * 300, "名前 ñ", "", "   "),
    # screens
    *("line\nbreak", "a\r\nb", "a\u2028b", "nul\0l", "\x1b[31mred\x1b[0m\x07", "\x9b2J", "\u202egnp.exe"),
)  # fmt: skip
#: What a hand-written manifest and the command line may hold; the others are refused.
PRINTABLE = tuple(name for name in NAMES if name.isprintable() and name.strip())
_CONTROLS = ("Cc", "Zl", "Zp", "Cs")
_DIRECTION = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Trap:
    """Whether a name was run."""

    hit: Path  #: the file that appears then

    def require_silence(self) -> None:
        assert not self.hit.exists(), self.hit.read_text()
        assert not Path("hit").exists(), "a shell ran a name"

    def reset(self) -> None:
        self.hit.unlink(missing_ok=True)


def set_trap(folder: Path, monkeypatch: Any) -> Trap:
    """Put the module on the path and the files into a new current folder."""
    for name in ("modules", "here"):
        (folder / name).mkdir(parents=True)
    hit = folder / "hit"
    # It ends with an error, so that a second import runs it again.
    code = f"open({str(hit)!r}, 'a').write('run')\nraise ImportError\n"
    (folder / "modules" / f"{MODULE}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder / "modules"))
    monkeypatch.chdir(folder / "here")
    for name in (FILE, "canary.yaml"):
        Path(name).write_text(json.dumps({"key": f"$import {MODULE}"}))
    return Trap(hit)


def call(*words: str, code: int = 0) -> str:
    """Run a command, which must end with this code and print nothing that a terminal would obey."""
    streams = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        found = main(list(words))
    texts = [stream.getvalue() for stream in streams]
    require_showable("".join(texts))
    assert found == code, texts
    if code:
        assert texts[1].startswith("error: "), texts
        assert texts[1].count("\n") == 1, texts
        assert "this is a bug" not in texts[1], texts
    return texts[bool(code)]


def require_showable(text: str) -> None:
    """Require a text without control characters but line breaks, without marks of direction and broken letters."""
    bad = {char for char in text if unicodedata.category(char) in _CONTROLS and char != "\n"} | (_DIRECTION & set(text))
    assert not bad, (bad, text)


def read_as_monai(bundle: Path, *, run: bool = False) -> dict[str, Any]:
    """Read a bundle in all the ways in which MONAI and its clients do; return its metadata as MONAI gives them.

    Args:
        bundle: its folder.
        run: also build everything in the configs of training and inference.
    """
    configs = bundle / "configs"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parser = ConfigParser()
        parser.read_meta(configs / "metadata.json")
        read_all(parser)
        loaded = load_bundle_config(str(bundle), "train.json")
        for name in ("_meta_", "bundle_root", "dataset_dir", "manifest"):
            loaded.get_parsed_content(name)
        _read_workflows(configs)
        _read_as_monai_label(bundle)
        for path in sorted(configs.glob("*.json")) if run else ():
            alone = ConfigParser()
            alone.read_config([*_list_bases(path), path])
            alone.read_meta(configs / "metadata.json")
            read_all(alone)
    found: dict[str, Any] = parser.get_parsed_content("_meta_")
    return found


def _list_bases(path: Path) -> list[Path]:
    """Return the configs that a config overrides."""
    folder, name = path.parent, path.name
    if name in ("train.json", "inference.json", "metadata.json", "losses.json"):
        return []
    if name in ("refine.json", "tta.json", "ensemble.json"):
        return [folder / "inference.json"]
    return [folder / "train.json"]


def read_all(parser: ConfigParser) -> None:
    """Ask for every id of a config; what cannot be built without data or weights is not of interest here."""
    parser.parse()
    parser.config.update({"cache_rate": 0.0, "check": False})
    parser.parse()
    for name in list(parser.ref_resolver.items):
        if name and name.partition("::")[0] not in ("run", "initialize", "finalize"):
            with contextlib.suppress(Exception):
                parser.get_parsed_content(name)


def _read_workflows(configs: Path) -> None:
    """Read the properties of training and inference as federated clients do."""
    for kind, file in (("train", "train.json"), ("infer", "inference.json")):
        workflow: ConfigWorkflow = create_workflow(
            config_file=str(configs / file),
            workflow_type=kind,
            meta_file=str(configs / "metadata.json"),
            logging_file=False,
        )
        workflow.parser.config["initialize"] = []
        workflow.initialize()
        for name in ("version", "monai_version", "description", "spatial_shape", "channel_def", "bundle_root"):
            with contextlib.suppress(KeyError):  # not a property of MONAI's older versions
                getattr(workflow, name)
        with contextlib.suppress(Exception):  # where there are no data
            workflow.check_properties()


def _read_as_monai_label(bundle: Path) -> None:
    """Make the calls of ``monailabel.tasks.infer.bundle.BundleInferTask`` (0.8.5)."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    parser.config.update({"bundle_root": str(bundle)})
    parser.config["use_click"] = False
    for name in ("network_def", "inferer", "preprocessing", "postprocessing"):
        assert parser.get(name)
        with contextlib.suppress(RuntimeError):  # chains that need the data
            parser.get_parsed_content(name, instantiate=True)
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    _, pred = next(iter(metadata["network_data_format"]["outputs"].items()))
    assert {name.lower(): int(number) for number, name in pred["channel_def"].items()}


def iterate_texts(item: Any) -> Iterator[str]:
    """Yield all texts of a JSON value, keys included."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, dict):
        for key, value in item.items():
            yield key
            yield from iterate_texts(value)
    elif isinstance(item, list):
        for value in item:
            yield from iterate_texts(value)
