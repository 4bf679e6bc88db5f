"""The house keeps its shape: which room may import which, no circles, no crowded folder, no name with two meanings."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pipeline"
MOST_MODULES = 18
# What every room may use.
GROUND = {"pipeline", "issues", "atomic", "flags", "faults"}
# Room -> the rooms that it may import, besides itself and the ground. A room that is not named here may import none.
ARROWS = {
    "__main__": {"commands"},
    "commands": {"bundle", "crossval", "datasets", "federated", "handlers", "prediction", "reports", "tuning"},
    "bundle": {"datasets", "weights"},
    "tuning": {"bundle", "datasets", "handlers", "metrics", "parallel", "runs", "statistics", "transforms", "weights"},
    "prediction": {"bundle", "datasets", "handlers", "transforms", "weights"},
    "federated": {"bundle", "datasets", "handlers", "weights"},
    "crossval": {"bundle", "datasets", "handlers", "metrics", "reports", "runs"},
    "reports": {"bundle", "datasets", "pictures", "runs", "statistics"},
    "runs": {"datasets", "statistics"},
    "transforms": {"crf", "datasets", "metrics", "pictures"},
    "handlers": {"metrics", "parallel", "pictures", "runs", "weights"},
    "inferers": {"parallel", "weights"},
    "networks": {"weights"},
    "losses": {"parallel"},
}
# The same inside `pipeline.datasets`, where modules of the folder itself are rooms too.
DATASET_GROUND = {"digests", "files", "ordering", "output_space"}
DATASET_ARROWS = {
    "datasets": {"datalist", "inputs", "manifests"},
    "datalist": {"checks", "manifests", "probes"},
    "phantoms": {"layouts", "manifests", "splits"},
    "convert": {"checks", "coco", "datalist", "layouts", "manifests", "probes"},
    "inputs": {"checks", "layouts", "manifests", "probes"},
    "layouts": {"checks", "coco", "manifests", "probes"},
    "checks": {"coco", "manifests", "probes"},
    "coco": {"manifests", "probes"},
    "probes": {"manifests"},
    "splits": {"manifests"},
}
# Modules that stand in several rooms under one name because they are about one thing.
SAME_MEANING = {
    "__init__",
    # Formats and layouts: a reader, a writer, a phantom.
    *("cells", "coco", "decathlon", "dicom", "folders", "isic", "lgg", "nifti", "nnunet", "raster", "volumes"),
    # The network of a room of networks.
    "network",
}


def list_modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = list_modules()


def find_imports(path: Path) -> Iterator[str]:
    """Yield the modules of the package that a file imports, inside functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in MODULES:
                    yield inner
                elif node.module in MODULES:
                    yield node.module


IMPORTS = {name: set(find_imports(path)) - {name} for name, path in MODULES.items()}


def name_room(module: str, depth: int) -> str:
    parts = module.split(".")
    return parts[depth] if len(parts) > depth else parts[-1]


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_arrows(module):
    room = name_room(module, 1)
    for target in IMPORTS[module]:
        other = name_room(target, 1)
        assert other in {room, *GROUND, *ARROWS.get(room, ())}, f"{module} imports {target}"
        if room == other == "datasets":
            inner, theirs = name_room(module, 2), name_room(target, 2)
            allowed = {inner, *DATASET_GROUND, *DATASET_ARROWS.get(inner, ())}
            assert theirs in allowed, f"{module} imports {target}"


def test_the_arrows_are_all_needed():
    for depth, arrows in ((1, ARROWS), (2, DATASET_ARROWS)):
        used = defaultdict(set)
        for module, targets in IMPORTS.items():
            if depth == 2 and name_room(module, 1) != "datasets":
                continue
            used[name_room(module, depth)] |= {name_room(target, depth) for target in targets}
        assert {(room, other) for room, others in arrows.items() for other in others - used[room]} == set()


def test_no_circle_lazy_imports_included():
    done: set[str] = set()
    for start in MODULES:
        trail: list[str] = []

        def visit(module: str, trail: list[str] = trail) -> None:
            assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
            if module in done:
                return
            trail.append(module)
            for target in sorted(IMPORTS[module]):
                visit(target)
            trail.pop()
            done.add(module)

        visit(start)


def test_no_crowded_folder():
    # The table of commands has one file a command, which is as easy to find in a long list.
    folders = {path.parent for path in MODULES.values()} - {PACKAGE / "commands"}
    counts = {folder: len(list(folder.glob("*.py"))) for folder in folders}
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_a_name_means_one_thing():
    places = defaultdict(list)
    for module, path in MODULES.items():
        if path.stem not in SAME_MEANING and name_room(module, 1) != "commands":
            places[path.stem].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_room_says_what_it_is_for():
    for module, path in MODULES.items():
        assert ast.get_docstring(ast.parse(path.read_text())), f"{module} has no docstring"
