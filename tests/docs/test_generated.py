"""What the documents say of commands, configs, layouts, rooms and findings is what the code says."""

from __future__ import annotations

import re

import pytest
from monai.bundle import ConfigParser

from pipeline.datasets.layouts import LAYOUTS
from tests.bundles.conftest import BUNDLES, read_json
from tests.docs.generated import CONFIGS, PARTS, read_settings, replace_part
from tests.docs.markdown import ROOT, list_rows, read_text
from tests.test_rooms import ARROWS, DATASET_ARROWS


@pytest.mark.parametrize("part", PARTS)
def test_generated_parts_are_up_to_date(part: str) -> None:
    document, render = PARTS[part]
    text = read_text(document)
    assert text == replace_part(text, part, render()), "run: make docs"


def test_architecture_names_every_room() -> None:
    text = read_text("ARCHITECTURE.md")
    rooms = {path.name for path in (ROOT / "pipeline").iterdir() if (path / "__init__.py").is_file()}
    inner = {path.name for path in (ROOT / "pipeline/datasets").iterdir() if (path / "__init__.py").is_file()}
    listed = " ".join(row[0] for row in list_rows(text, "room"))
    named = {name.split("/")[0] for name in re.findall(r"`([\w/]+)`", listed)}
    assert named == rooms | {"issues", "atomic", "flags", "weights"}
    assert {name.split("/")[1] for name in re.findall(r"`(datasets/\w+)`", listed)} == inner | {"datalist"}
    assert set(ARROWS) - {"__main__"} <= named
    assert set(DATASET_ARROWS) - {"datasets"} <= inner | {"datalist"}


def test_every_setting_is_explained() -> None:
    text = read_text("docs/reference/configs.md").split("<!-- generated")[0]
    explained = set(re.findall(r"`(\w+)`", text))
    for bundle in BUNDLES:
        for file in CONFIGS:
            path = bundle / "configs" / file
            missing = set(read_settings(path)) - explained if path.is_file() else set()
            assert not missing, f"{bundle.name} {file}: {missing}"


def test_explained_settings_and_ids_exist() -> None:
    text = read_text("docs/reference/configs.md")
    configs = []
    for bundle in BUNDLES:
        for files in (("train.json", "evaluate.json", "refine.json"), ("inference.json", "refine.json")):
            config = ConfigParser()
            config.read_config([str(bundle / "configs" / file) for file in files])
            configs.append(config)
    names = [row[0] for row in list_rows(text, "setting")]
    names += [row[0] for row in list_rows(text.split("## Settings of some bundles")[1], "setting")]
    names += [row[0] for row in list_rows(text, "id")]
    for name in (name for cell in names for name in re.findall(r"`([\w#]+)`", cell)):
        assert name == "finalize" or any(name in config for config in configs), name


def test_config_files_are_explained() -> None:
    rows = {row[0].strip("`") for row in list_rows(read_text("docs/reference/configs.md"), "file")}
    for bundle in BUNDLES:
        for path in (bundle / "configs").iterdir():
            assert f"configs/{path.name}" in rows or path.name == "paper.json", path


def test_table_of_layouts() -> None:
    rows = list_rows(read_text("docs/how-to/manage-datasets.md"), "layout")
    assert {row[0].strip("`") for row in rows} == set(LAYOUTS)
    for row in rows:
        options = {f"--{option.name.replace('_', '-')}" for option in LAYOUTS[row[0].strip("`")].options}
        assert set(re.findall(r"`(--[\w-]+)`", row[3])) == options, row[0]


def test_findings_that_are_listed_exist() -> None:
    rows = list_rows(read_text("docs/reference/errors.md").split("## Findings")[1], "code")
    codes = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row[0])}
    source = "\n".join(path.read_text() for path in (ROOT / "pipeline/datasets").rglob("*.py"))
    assert {code for code in codes if f'"{code}"' not in source and f"``{code}``" not in source} == set()
    assert len(codes) > 60


def test_steps_of_post_processing_have_their_switches() -> None:
    rows = list_rows(read_text("docs/reference/post-processing.md"), "step")
    named = {name for row in rows for cell in row[1:3] for name in re.findall(r"`(\w+)`", cell)}
    known = {key for bundle in BUNDLES for key in read_json(bundle / "configs/refine.json")}
    knobs = {key for key in known if key.startswith(("skip_", "crf_")) or key.endswith(("_radius", "_size"))}
    assert named - {"threshold", "temperature"} == knobs
