"""The page of a run: what it says in HTML, Markdown and JSON, which cases are drawn, hostile names, bad folders."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from pipeline.commands.cli import main
from pipeline.issues import InputError
from pipeline.reports.case_views import draw_views, map_errors, outline
from pipeline.reports.run_page import render_run_page
from pipeline.reports.training_curves import read_curves
from pipeline.runs.run_folder import read_run
from tests.run_folders import write_pictures, write_run

SCORES = {f"c{k}": 0.5 + 0.04 * k for k in range(12)} | {"c12": float("nan")}
BUNDLES = Path(__file__).parents[2] / "bundles"
HOSTILE = "<script>alert(1)</script>\u202e|a_b"


def test_html_says_what_the_tables_say(tmp_path, capsys):
    folder = write_run(tmp_path / "run", SCORES)
    write_pictures(folder, {"c11": 1, "c0": 3})
    assert main(["report", str(folder), "-o", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    row = text[text.index("<tbody>") : text.index("</tbody>")]
    for value in ("0.720", "12", "exclude", "image"):  # the mean of 0.50, 0.54, ..., 0.94
        assert f">{value}<" in row
    assert text.index(">c0<") < text.index("<strong>worst</strong>") + 200
    assert text.count('<figure class="pair view">') == 2
    assert "slice 3 of 13" in text
    assert "http" not in text.replace("http-equiv", "")


def test_json_has_every_section_and_no_picture(tmp_path):
    folder = write_run(tmp_path, SCORES, checkpoint={"path": "model.pt", "sha256": "1" * 64})
    write_pictures(folder, {"c11": 1})
    page = json.loads(render_run_page([folder], ".json"))[0]
    assert page["summary"]["metrics"][0]["mean"] == pytest.approx(0.72)
    assert [row["case"] for row in page["cases"]["rows"]][:2] == ["c0", "c1"]
    assert page["cases"]["rows"][-1] == {"case": "c12", "subject": "pc12", "scores": [None]}
    assert page["pictures"]["cases"] == [{"case": "c11", "kind": "best", "rank": 1, "score": pytest.approx(0.94)}]
    assert page["provenance"]["manifest_sha256"] == "0" * 64
    assert (page["provenance"]["checkpoint"], page["provenance"]["checkpoint_sha256"]) == ("model.pt", "1" * 64)
    assert "data:image" not in json.dumps(page)
    filled = {entry["item"]: entry["text"] for entry in page["checklist"]["filled"]}
    assert filled["Numbers of patients and examinations"] == "images: 12 with a score, of 13, subjects: 12"
    assert "Sample size: how it was chosen" in page["checklist"]["open"]


def test_checklist_takes_the_method_from_the_recorded_config(tmp_path):
    config = json.loads((BUNDLES / "lgg_attunet/configs/train.json").read_text())
    folder = write_run(tmp_path, SCORES, config={**config, "split": "val", "fold": 2})
    (page,) = json.loads(render_run_page([folder], ".json"))
    filled = {entry["item"]: entry["text"] for entry in page["checklist"]["filled"]}
    assert filled["Partition that was scored"] == "split val, fold 2 of the manifest"
    assert filled["Preprocessing of the data"] == "LoadImageStackd, EncodeMaskd, NormalizeForegroundd"
    assert filled["Model: network and its settings"].startswith("AttentionUnet(spatial_dims=2, in_channels=9")
    assert "RandGammaByChanneld" in filled["Training: augmentation of the data"]
    assert filled["Training: loss and optimiser"].startswith("DiceCELoss(sigmoid=True, batch=True); AdamW(")


def test_distances_rank_the_other_way(tmp_path):
    folder = write_run(tmp_path, {"near": 1.0, "far": 9.0, "between": 4.0}, metric="hd95_image")
    write_pictures(folder, {"near": 1, "far": 1, "between": 1})
    views = draw_views(read_run(folder), "hd95_image")["views"]
    assert [(view.kind, view.case_id) for view in views] == [("best", "near"), ("median", "between"), ("worst", "far")]
    assert json.loads(render_run_page([folder], ".json"))[0]["cases"]["rows"][0]["case"] == "far"


def test_the_worst_slice_is_shown_first(tmp_path):
    folder = write_run(tmp_path, {"a": 0.5})
    write_pictures(folder, {"a": 3})
    view = draw_views(read_run(folder), "dice_image")["views"][0]
    assert [frame.wrong for frame in view.frames] == [0, 80, 80]
    assert (view.start, view.frames[1].number, view.total) == (1, 4, 13)


def test_outline_and_errors_by_hand():
    mask = np.zeros((4, 5), dtype=int)
    mask[1:3, 2:4] = 2
    corners = {tuple(map(float, point.split())) for point in outline(mask)[1:-1].split("L")}
    assert (min(x for x, _ in corners), max(x for x, _ in corners)) == (2, 4)
    assert (min(y for _, y in corners), max(y for _, y in corners)) == (1, 3)
    assert map_errors(np.array([5, 6]), np.array([6, 0]), is_instances=True).tolist() == [0, 2]


def test_hostile_names_are_text(tmp_path):
    folder = write_run(tmp_path / "a<b>", {HOSTILE: 0.5, "b": 0.7}, subjects={HOSTILE: "<b>p</b>", "b": "q"})
    write_pictures(folder, {HOSTILE: 2})
    page = render_run_page([folder])
    assert page.count("<script>") == 1
    assert "<b>p" not in page
    assert "\u202e" not in page
    marks = render_run_page([folder], ".md")
    assert "\\<script\\>alert\\(1\\)\\</script\\>\\\\u202e\\|a\\_b" in marks


def test_two_runs_on_one_page(tmp_path, capsys):
    folders = [str(write_run(tmp_path / name, SCORES)) for name in "ab"]
    page = render_run_page(folders)
    assert page.count("<article") == 2
    assert main(["report", *folders, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == folders


def test_without_pictures_the_page_says_why(tmp_path):
    assert "This run has no pictures of cases." in render_run_page([write_run(tmp_path, SCORES)])


def test_a_training_says_which_checkpoint_its_numbers_are_of(tmp_path):
    record = {"best": {"metric": "dice_image", "value": 0.7, "epoch": 3}, "epochs": 5, "max_epochs": 9}
    folder = write_run(tmp_path, SCORES, record=record, filename="run.json")
    table = (folder / "metrics.csv").read_text().splitlines()
    (folder / "metrics.csv").write_text(
        "\n".join([table[0], *(line[: line.rindex(",")] + ",3" for line in table[1:]), ""])
    )
    with SummaryWriter(str(folder)) as writer:
        for epoch in range(1, 6):
            writer.add_scalar("val_mean_dice", epoch / 10, epoch)
    page = render_run_page([folder])
    assert "scores of the validation after epoch 3, the best so far: those of model.pt" in page
    assert "val_<wbr>mean_<wbr>dice</bdi>, last 0.5000 at step 5" in page
    assert "best validation, dice_image 0.7, epoch 3" in page
    assert "run evaluate.json with its model.pt as --checkpoint" in page


def test_events_that_are_being_written_are_read_as_far_as_they_are(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(5):
            writer.add_scalar("loss", step, step)
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-7])
    assert read_curves(tmp_path) == {"loss": [(step, float(step)) for step in range(4)]}


def test_bad_input_is_one_line(tmp_path, capsys):
    folder = write_run(tmp_path / "run", SCORES)
    cases = {
        "expected a name that ends in .html, .md, .json": ["report", str(folder), "-o", str(tmp_path / "page.pdf")],
        "holds no <metric>_raw.csv": ["report", str(tmp_path), "-o", str(tmp_path / "page.html")],
        "is not a folder": ["report", str(tmp_path / "gone"), "-o", str(tmp_path / "page.html")],
    }
    for said, words in cases.items():
        assert main(words) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert said in lines[0]
    (tmp_path / "folder.html").mkdir()
    assert main(["report", str(folder), "-o", str(tmp_path / "folder.html")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'folder.html'}: is a directory\n"
    (folder / "dice_image_raw.csv").write_text("filename,class0,mean,subject,unit\nc0,0.5,0.5")
    with pytest.raises(InputError, match=r"cut off; run evaluate\.json again"):
        render_run_page([folder])
    assert list(tmp_path.glob("page*")) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_one_line(tmp_path):
    folder = write_run(tmp_path, SCORES)
    (folder / "events.out.tfevents.1").write_bytes(b"")
    (folder / "events.out.tfevents.1").chmod(0)
    with pytest.raises(InputError, match="permission denied, check its owner and `chmod u\\+r`"):
        render_run_page([folder])


def test_fifty_cases_are_under_five_megabytes_and_a_thousand_under_a_minute(tmp_path):
    """Noise is what JPEG compresses worst; six volumes of 16 slices of 256 x 256 are the most that is drawn."""
    scores = {f"c{k:03}": k / 1000 for k in range(1000)}
    folder = write_run(tmp_path, dict(list(scores.items())[:50]))
    write_pictures(folder, dict.fromkeys(["c049", "c048", "c024", "c025", "c001", "c000"], 16), (256, 256))
    page = render_run_page([folder])
    assert page.count('class="pair view"') == 6
    assert len(page) < 5_000_000
    started = time.monotonic()
    many = render_run_page([write_run(tmp_path / "many", scores)])
    assert time.monotonic() - started < 60
    assert many.count("<tr><th") > 1000


def test_an_old_run_and_one_without_cases_have_a_page(tmp_path):
    (tmp_path / "metrics.csv").write_text("dice_pooled,0.5\n")
    page = render_run_page([tmp_path])
    assert "dice_pooled</bdi> 0.5000" in page
    assert "The run has no table of cases." in page
    assert "This folder holds no record of the run." in page
    (tmp_path / "dice_image_raw.csv").write_text("filename,class0,mean\na,0.5,0.5\nb,0.7,0.7\n")
    assert json.loads(render_run_page([tmp_path], ".json"))[0]["cases"]["rows"][0]["subject"] == ""
    assert "each counted for itself" in render_run_page([tmp_path], ".md")
