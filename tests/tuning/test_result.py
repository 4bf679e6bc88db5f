import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bundle.formatting import format_config
from pipeline.issues import InputError
from pipeline.statistics.paired import Difference
from pipeline.tuning.ablation import Row
from pipeline.tuning.choice import Choice
from pipeline.tuning.result import (
    Result,
    check_output,
    describe_choice,
    format_markdown,
    format_table,
    list_commands,
    to_dict,
    write_files,
)
from pipeline.tuning.settings import STEPS, Step, switch_off
from pipeline.tuning.workflow import Workflow, open_workflow
from tests.bundles.conftest import ROOT

BASE = {"threshold": 0.5, "skip_crf": True, "crf_spatial_width": [3.0, 1.0]}


def make_choice(low: float | None, high: float | None, *, mean: float = 0.0012, chance: float = 0.001) -> Choice:
    step = Step("crf", "crf", ("skip_crf", "crf_spatial_width"), ())
    chosen = BASE | {"skip_crf": False}
    return Choice(
        step,
        BASE,
        chosen,
        (chosen,),
        0.01,
        Difference(mean, low, high, 5, 5, "" if low else "3 of 9 subjects differ"),
        32,
        chance,
    )


def make_result() -> Result:
    gain = Difference(-0.00001, -0.03, 0.02, 120, 100)
    rows = (
        Row("raw", BASE, 0.8),
        Row("largest_component", BASE, 0.81, "others as shipped", 0.01, gain),
        Row("written", BASE, float("nan"), "raw", None, gain),
    )
    facts = {
        **{
            "split": "val",
            "fold": None,
            "cases": 120,
            "subjects": 100,
            "ungrouped": 0,
            "folds": 10,
            "resamples": 10_000,
            "seed": 0,
        },
        **{"manifest_sha256": "a" * 64, "weights_sha256": "b" * 64},
    }
    seconds = {"raw": 0.00012, "largest_component": 123.4, "written": 1}
    return Result(
        metric="jaccard_65_image",
        rows=rows,
        choices=(make_choice(-0.003, 0.0051),),
        override={"threshold": 0.5, "refine": [{"_target_": "AsDiscreted", "keys": "pred"}]},
        seconds=seconds,
        network_seconds=8.31,
        facts=facts,
        output=Path("p.json"),
        ablation=Path("cache/ablation.md"),
        commands=("python evaluate", "python predict"),
    )


@pytest.mark.parametrize(
    ("choice", "line"),
    [
        (
            make_choice(-0.003, 0.0051),
            "crf: off, gain +0.0012 (-0.0030 to 0.0051) is not certain: the interval includes zero",
        ),
        (make_choice(-0.003, -0.0001, mean=-0.001), "crf: off, gain -0.0010 (-0.0030 to -0.0001) is a loss"),
        (make_choice(0.0001, 0.0051), "crf: on, gain +0.0012 (0.0001 to 0.0051): skip_crf false"),
        (
            make_choice(0.0001, 0.0051, chance=0.08),
            "crf: off, gain +0.0012 (0.0001 to 0.0051), but the best of 32 values may gain as much by chance (p 0.08)",
        ),
        (
            replace(make_choice(0.0001, 0.0051), on_top=Difference(0.0002, -0.001, 0.002, 5, 5)),
            "crf: off, gain +0.0012 (0.0001 to 0.0051), but on top of the other steps "
            "+0.0002 (-0.0010 to 0.0020) is not certain: the interval includes zero",
        ),
        (make_choice(None, None), "crf: off, +0.0100 here, but 3 of 9 subjects differ"),
    ],
)
def test_a_step_is_told_in_a_line(choice: Choice, line: str) -> None:
    assert describe_choice(choice) == line


def test_the_table_fits_into_a_hundred_columns() -> None:
    lines = format_table(make_result())
    assert max(map(len, lines)) <= 100
    assert "largest_component  -   others as shipped  0.8100  +0.0100    +0.0000   -0.0300 to +0.0200  123" in lines
    assert not any("-0.0000" in line for line in lines)


def test_a_step_that_gains_more_can_be_off_and_the_table_says_so() -> None:
    small = replace(make_choice(0.0001, 0.0021), step=Step("fill_holes", "morphology", ("skip_crf",), ()))
    large = replace(make_choice(-0.001, 0.05, mean=0.02))
    rows = tuple(
        Row(name, BASE, 0.8, "raw", 0.01, choice.gain) for name, choice in (("crf", large), ("fill_holes", small))
    )
    result = replace(make_result(), choices=(large, small), rows=(make_result().rows[0], *rows))
    lines = format_table(replace(result, seconds=dict.fromkeys(("raw", "crf", "fill_holes"), 1.0)))
    table = {line.split()[0]: line.split() for line in lines if line.startswith(("raw", "crf ", "fill_holes "))}
    assert {name: words[1] for name, words in table.items()} == {"raw": "-", "crf": "no", "fill_holes": "yes"}
    assert "crf: off, gain +0.0200 (-0.0010 to 0.0500) is not certain: the interval includes zero" in lines
    assert any(line.startswith("on: yes if the gain is certain, however small") for line in lines)


def test_cases_without_a_subject_are_told() -> None:
    result = make_result()
    lines = format_table(replace(result, facts={**result.facts, "ungrouped": 14}))
    assert any(line.startswith("note: 14 cases have no subject in the manifest") for line in lines)
    assert not any("no subject" in line for line in format_table(result))


def test_json_and_markdown_hold_the_same_rows() -> None:
    result = make_result()
    content = json.loads(json.dumps(to_dict(result), allow_nan=False))
    assert [row["score"] for row in content["rows"]] == [0.8, 0.81, None]
    table = [line for line in format_markdown(result).splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(content["rows"])
    assert {line.count("|") for line in table} == {9}


def test_the_written_file_is_a_config_of_the_steps_that_are_on(tmp_path: Path) -> None:
    write_files(replace(make_result(), output=tmp_path / "new/p.json", ablation=tmp_path / "cache/ablation.md"))
    text = (tmp_path / "new/p.json").read_text()
    content = json.loads(text)
    assert list(content) == ["_desc_", "threshold", "refine", "ablation"]
    assert "weights sha256 bbbbbbbbbbbb" in content["_desc_"]
    assert text == format_config(content)
    check_output(tmp_path / "new/p.json")  # it may be written again


@pytest.mark.parametrize("content", ['{"network_def": {}}', "[]", "no JSON"])
def test_another_file_is_never_overwritten(content: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(InputError, match="not overwritten"):
        check_output(tmp_path / "p.json")


def test_commands_name_what_the_configs_do_not_know(tmp_path: Path) -> None:
    bundle = tmp_path / "my bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs/evaluate.json").write_text('{"split": "val"}')
    (bundle / "configs/inference.json").write_text('{"input": "x", "checkpoint": "y", "flips": []}')
    options = {"dataset_dir": "my data", "split": "val", "fold": 1, "flips": [[0]], "checkpoint": "w.pt"}
    options |= {"threshold": 0.3, "refine#0#keys": "label"}  # the file decides on these
    workflow = Workflow(bundle, (), None, {}, "dice")
    evaluate, predict = list_commands(workflow, tmp_path / "p.json", options, Path("my data/scans"), False)
    assert f"'{bundle}/configs/train.json','{bundle}/configs/evaluate.json','{tmp_path}/p.json'" in evaluate
    assert f"--bundle_root '{bundle}' --dataset_dir 'my data' --fold 1 --flips '[[0]]' --checkpoint w.pt" in evaluate
    assert f"'{bundle}/configs/inference.json','{tmp_path}/p.json'" in predict
    assert predict.endswith("--input 'my data/scans' --flips '[[0]]' --checkpoint w.pt")
    assert "threshold" not in evaluate
    assert "refine" not in evaluate


@pytest.mark.parametrize(
    ("bundle", "on"),
    [
        ("lgg_attunet", {"skip_fill_holes": False, "skip_largest_component": False}),
        ("hippocampus_segresnet", {}),
    ],
)
def test_a_shipped_file_is_what_tuning_writes(bundle: str, on: dict[str, object]) -> None:
    folder = ROOT / "bundles" / bundle
    workflow = open_workflow(folder, [], {})
    override = workflow.build_override(switch_off(workflow.knobs, list(STEPS)) | on)
    text = (folder / "configs/postprocessing.json").read_text(encoding="utf-8")
    written = json.loads(text)
    more = {"ablation": written["ablation"]} if "ablation" in written else {}  # older files have none
    assert format_config({"_desc_": written["_desc_"], **override, **more}) == text


def test_a_step_that_is_on_is_written_with_its_values_and_what_it_needs() -> None:
    workflow = open_workflow(ROOT / "bundles/hippocampus_segresnet", [], {})
    on = {"skip_crf": False, "crf_spatial_weight": 0.918, "crf_bilateral_width": 2.28}
    override = workflow.build_override(switch_off(workflow.knobs, list(STEPS)) | on)
    steps = [step["_target_"].rpartition(".")[2] for step in override.pop("refine")]
    assert steps == ["LoadSourced", "ScaleIntensityRangePercentilesd", "DenseCRFd", "AsDiscreted"]
    assert {key for key in override if not key.startswith("crf_")} == set()
    assert (override["crf_spatial_weight"], override["crf_bilateral_width"]) == (0.918, 2.28)


def test_a_step_without_a_switch_is_always_written() -> None:
    workflow = open_workflow(ROOT / "bundles/u373_unet", [], {})
    override = workflow.build_override(switch_off(workflow.knobs, list(STEPS)))
    assert list(override) == ["threshold", "min_size", "refine"]
    assert all("_disabled_" not in step for step in override["refine"])
    assert [step["_target_"].rpartition(".")[2] for step in override["refine"]] == ["AsDiscreted", "LabelInstancesd"]
