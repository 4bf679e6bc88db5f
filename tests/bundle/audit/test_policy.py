"""The allow-list against the installed packages: names lead where MONAI finds them, nothing risky is allowed unseen."""

from __future__ import annotations

import ast
import inspect
import json
import pydoc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.bundle.audit.files.torch_pickles import ALLOWED, OPERATIONS
from pipeline.bundle.audit.language.installed_names import (
    FOLLOWED,
    find_package,
    list_short_names,
    locate_statically,
)
from pipeline.bundle.audit.language.target_policy import _PREFIXES, find_rule, judge_name, judge_target

ROOT = Path(__file__).resolve().parents[3]
# Components of MONAI that are defined within an if or try; the audit does not know them by their short names.
CONDITIONAL = {"ProfileResult", "_rebuild_meta", "reduce_meta_tensor", "monai_mish", "monai_swish", "CellInterface"}
CONDITIONAL |= {"StemInterface", "_update_args", "is_available"}
RISKY_NAMES = {
    *(
        "eval",
        "exec",
        "__import__",
        "import_module",
        "locate",
        "system",
        "popen",
        "Popen",
        "check_output",
        "check_call",
    ),
    *("rmtree", "remove", "unlink", "urlopen", "urlretrieve", "download_url", "download_and_extract", "run_cmd"),
    *("instantiate", "load_state_dict_from_url", "extractall", "run_path", "run_module", "fromfile", "memmap", "CDLL"),
    *("load_library", "ConfigParser"),
}
RISKY_CALLS = {"torch.load", "np.load", "pickle.load", "pickle.loads", "torch.hub.load", "torch.jit.load", "open"}
RISKY_CALLS |= {"subprocess.run", "subprocess.call"}
#: Allowed all the same, each with the reason.
SEEN = {
    "monai.apps.pathology.metrics.lesion_froc.LesionFROC": "np.load refuses pickles",
    "monai.data.dataset.NPZDictItemDataset": "np.load refuses pickles",
    "monai.data.decathlon_datalist.load_decathlon_datalist": "reads JSON",
    "monai.data.decathlon_datalist.load_decathlon_properties": "reads JSON",
    "monai.data.image_reader.NumpyReader": "allow_pickle is a finding",
    "monai.handlers.checkpoint_loader.CheckpointLoader": "weights_only",
    "monai.handlers.checkpoint_saver.CheckpointSaver": "removes its own checkpoints",
    "monai.inferers.inferer.PatchInferer": "merger_cls is checked",
    "monai.metrics.generalized_dice.compute_generalized_dice": "a list's remove",
    "monai.transforms.io.array.LoadImage": "reader is checked",
    "monai.transforms.io.array.SaveImage": "writer is checked",
    "ignite.engine.deterministic.update_dataloader": "a list's remove",
    "ignite.engine.events.RemovableEventHandle": "removes a handler",
    "ignite.handlers.checkpoint.Checkpoint": "weights_only",
    "ignite.handlers.checkpoint.DiskSaver": "removes its own checkpoints",
    "ignite.handlers.lr_finder.FastaiLRFinder": "weights_only, its own file",
    "ignite.handlers.param_scheduler.ConcatScheduler": "weights_only, its own file",
    "ignite.handlers.param_scheduler.LRScheduler": "weights_only, its own file",
    "ignite.handlers.param_scheduler.ParamGroupScheduler": "weights_only, its own file",
    "ignite.metrics.confusion_matrix.IoU": "a list's remove",
    "ignite.metrics.confusion_matrix.DiceCoefficient": "a list's remove",
    "pipeline.handlers.checkpoints.training_checkpoint.TrainingCheckpoint": "removes its own checkpoints",
    "pipeline.handlers.logs.case_pictures_saver.CasePicturesSaver": "removes its own pictures",
    "pipeline.handlers.run.run_record.RunRecord": "removes its own file",
}


def find_risks(node: ast.AST) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.Call):
            full = ast.unparse(part.func)
            own_method = full.endswith(".eval")  # of a network
            if (full.rpartition(".")[2] in RISKY_NAMES and not own_method) or full in RISKY_CALLS:
                yield full


@pytest.mark.parametrize("root", ["monai", "ignite", "pipeline"])
def test_nothing_risky_is_allowed_unseen(root: str) -> None:
    folder = find_package(root)
    assert folder
    found = {}
    for path in sorted(folder.rglob("*.py")):
        module = ".".join((root, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                name = f"{module}.{node.name}"
                if find_rule(name) == "allow" and (risks := sorted(set(find_risks(node)))):
                    found[name] = risks
    assert {name: risks for name, risks in found.items() if name not in SEEN} == {}
    assert {name for name in SEEN if name.startswith(f"{root}.")} == set(found)


def test_short_names_are_those_of_monai_and_lead_where_it_finds_them() -> None:
    from monai.bundle import ComponentLocator

    locator = ComponentLocator()
    locator.get_component_module_name("Compose")
    table = locator._components_table
    assert table
    names = list_short_names()
    assert {name for name, modules in table.items() if not set(modules) <= set(names.get(name, ()))} <= CONDITIONAL
    for name in sorted(set(table) - CONDITIONAL):
        for module in table[name]:
            real = getattr(sys.modules[module], name)
            places = {place.name for place in locate_statically(f"{module}.{name}")}
            # A lambda has no name of its own.
            assert f"{real.__module__}.{real.__qualname__.replace('<lambda>', name)}" in places


def walk_paths() -> Iterator[tuple[str, object]]:
    """Yield every public name of every loaded module that an allowed name could begin with, as it is written."""
    import ignite.distributed
    import ignite.handlers
    import monai.bundle
    import torch.utils.tensorboard

    import pipeline.handlers
    import pipeline.transforms

    assert all((ignite.distributed, ignite.handlers, monai.bundle, torch.utils.tensorboard))
    assert all((pipeline.handlers, pipeline.transforms))
    allowed = [f"{prefix}." for prefix in _PREFIXES if find_rule(prefix) != "deny"]
    for module in sorted(name for name in sys.modules if name.partition(".")[0] in FOLLOWED and "._" not in name):
        if not any(prefix.startswith(f"{module}.") or f"{module}.".startswith(prefix) for prefix in allowed):
            continue
        for name, value in list(vars(sys.modules[module]).items()):
            place: object = sys.modules[module.partition(".")[0]]
            for part in [*module.split(".")[1:], name]:
                place = getattr(place, part, None)
            if not name.startswith("_") and name.isidentifier() and place is value:
                yield f"{module}.{name}", value


@pytest.mark.filterwarnings("ignore")
def test_no_way_leads_around_the_list() -> None:
    """Every name that can be written in an allowed package: no module is a value, nothing denied is allowed."""
    number = 0
    for path, value in walk_paths():
        number += 1
        if inspect.ismodule(value):
            verdict = judge_name(path, value=True)
            assert verdict.code not in ("", "target-review"), (path, value, verdict)
        elif (inspect.isclass(value) or inspect.isroutine(value)) and path not in _PREFIXES:
            place = f"{value.__module__}.{value.__qualname__}"
            # What torch compiles has no place in a source; as parts of lists it is known.
            harmless = place.startswith(("torch._VariableFunctionsClass.", "torch._C.", "builtins.int"))
            if find_rule(place) == "deny" and not harmless:
                verdict = judge_name(path)
                aliases = {"functools.reduce": "_functools.reduce", "os.path.abspath": "posixpath.abspath"}
                known = any(verdict.why.endswith(f"is {name}") and place == real for name, real in aliases.items())
                assert known or verdict.code not in ("", "target-review"), (path, place, verdict)
    assert number > 10_000


def test_dotted_names_lead_where_pydoc_finds_them() -> None:
    """Every class and function of MONAI's and ignite's public packages, by the path that users write."""
    import ignite.handlers
    import monai.transforms

    checked = 0
    for package in (
        "monai.transforms",
        "monai.losses",
        "monai.networks.nets",
        "monai.data",
        "ignite.handlers",
        "torch.nn",
    ):
        for name in dir(pydoc.locate(package)):
            real = getattr(pydoc.locate(package), name)
            if (
                isinstance(real, type)
                and not name.startswith("_")
                and real.__module__.startswith(package.split(".")[0])
            ):
                places = {place.name for place in locate_statically(f"{package}.{name}")}
                assert f"{real.__module__}.{real.__qualname__}" in places, (package, name, places)
                checked += 1
    assert checked > 500
    assert monai.transforms
    assert ignite.handlers


@pytest.mark.parametrize(
    ("name", "code"),
    {
        "UNet": "",
        "monai.networks.nets.UNet": "",
        "torch.optim.AdamW": "",
        "torch.nn.parallel.DistributedDataParallel": "",
        "ignite.metrics.Accuracy": "",
        "pipeline.networks.parameter_groups": "",
        "operator.lt": "",
        "dict": "",
        "PersistentDataset": "target-review",
        "monai.handlers.MLFlowHandler": "target-review",
        "eval": "target-denied",
        "monai.bundle.run": "target-denied",
        "monai.bundle.ConfigParser": "target-denied",
        "monai.utils.optional_import": "target-denied",
        "monai.apps.utils.download_url": "target-denied",
        "PerceptualLoss": "target-denied",
        "ignite.distributed.Parallel": "target-denied",
        "torch.utils.cpp_extension.load": "target-denied",
        "torch.ops.load_library": "target-denied",
        "numpy.load": "target-denied",
        "operator.methodcaller": "target-denied",
        "pipeline.commands.cli.main": "target-denied",
        "scripts.x.Net": "bundle-code",
        "transformers.AutoModel": "target-outside",
        "UNett": "target-unknown",
        "monai.networks.nets.UNett": "target-unknown",
        "": "target-unknown",
        "monai": "target-unknown",
        "monai.transforms": "target-module",
    }.items(),
)
def test_names_and_their_verdicts(name: str, code: str) -> None:
    assert judge_target(name, {"scripts"}).code == code


def test_a_package_in_the_current_folder_is_not_taken_for_the_installed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "monai").mkdir()
    (tmp_path / "monai/__init__.py").write_text("from os import system as UNet\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    find_package.cache_clear()
    try:
        found = find_package("monai")
        assert found
        assert not found.is_relative_to(tmp_path)
    finally:
        find_package.cache_clear()


def test_pickles_may_name_what_torch_allows_and_no_more() -> None:
    import torch._weights_only_unpickler as reader

    mapped = {name.replace("__builtin__.", "builtins.") for name in ALLOWED}
    assert mapped - set(reader._get_allowed_globals()) == set()
    source = inspect.getsource(reader.Unpickler.load)
    assert {name for name in OPERATIONS if f"{name}[0]" not in source} == set()


def test_the_suite_names_only_what_is_allowed() -> None:
    def list_targets(value: object) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (str(text) for key, text in value.items() if key == "_target_")
        for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from list_targets(child)

    names = {
        name for path in ROOT.glob("bundles/*/configs/*.json") for name in list_targets(json.loads(path.read_text()))
    }
    assert len(names) > 100
    assert {name: judge_target(name) for name in names if judge_target(name).code} == {}
