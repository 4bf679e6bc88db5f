"""Cases that a client of the bundle brings: without ids and manifest, trained again and again in one folder."""

import csv
import json
import logging
import os

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from tiny_training import KEY, make_cases
from whole_training import build, read_record

from pipeline import handlers
from pipeline.handlers.checkpoints.client_weights import ClientWeights
from pipeline.handlers.checkpoints.run_settings import describe_settings
from pipeline.handlers.run.batch_cases import has_no_cases, is_handed_over, list_case_ids, name_item
from pipeline.issues import InputError


def hand_over(count=6, first=0):
    """Return cases as clients pass them: images with a file, no ids."""
    cases = make_cases(count, first)
    for number, case in enumerate(cases):
        del case["case_id"]
        case["image"] = MetaTensor(case["image"], meta={"filename_or_obj": f"/scans/{number}.x/scan_{number}.nii.gz"})
    return cases


def train(folder, models, **options):
    trainer = build(folder, 2, cases=hand_over(), ckpt_dir=models, manifest=folder / "nowhere.json", **options)
    trainer.run()
    return trainer


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "model.pt").write_bytes(b"shipped")
    return folder


def test_the_best_weights_arrive_where_clients_read_them(tmp_path, models, caplog):
    with caplog.at_level(logging.INFO):
        train(tmp_path / "out", models)
    assert (models / "model.pt").read_bytes() == (tmp_path / "out/model.pt").read_bytes()
    assert (models / "model_shipped.pt").read_bytes() == b"shipped"
    assert sorted(path.name for path in models.iterdir()) == ["model.pt", "model_shipped.pt"]
    lines = [record.getMessage() for record in caplog.records if "clients read" in record.getMessage()]
    assert lines == [
        f"the best weights are also in {models / 'model.pt'}, where clients read them; those of before are in "
        f"{models / 'model_shipped.pt'}"
    ]


def test_a_second_training_starts_anew_and_says_so(tmp_path, models, caplog):
    first = train(tmp_path / "out", models)
    caplog.clear()
    build(tmp_path / "out", 1, cases=hand_over(), ckpt_dir=models).run()
    assert [record.getMessage() for record in caplog.records if "earlier run" in record.getMessage()] == [
        f"{tmp_path / 'out/last_epoch=2.pt'} is from an earlier run: this training starts anew and replaces its "
        "checkpoints"
    ]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.pt")) == ["last_epoch=1.pt", "model.pt"]
    saved = torch.load(tmp_path / "out/last_epoch=1.pt", weights_only=True)
    assert (saved["trainer"]["epoch"], saved["best"]["epoch"]) == (1, 1)
    assert first.checkpoint_handler.best_metric is not None
    assert (models / "model.pt").read_bytes() == (tmp_path / "out/model.pt").read_bytes()
    assert (models / "model_shipped.pt").read_bytes() == b"shipped"
    record = read_record(tmp_path / "out")
    assert (record["manifest"], record["dataset_dir"], len(record["previous"])) == (None, None, 1)


def test_trained_weights_are_not_taken_for_shipped_ones(tmp_path):
    for _ in range(2):
        train(tmp_path / "out", tmp_path / "models")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["model.pt"]


def test_a_killed_epoch_leaves_the_earlier_run(tmp_path, models):
    train(tmp_path / "out", models)
    trainer = build(tmp_path / "out", 1, cases=hand_over(), ckpt_dir=models)
    trainer.add_event_handler(Events.ITERATION_STARTED, _fail)
    with pytest.raises(OSError, match="power cut"):
        trainer.run()
    assert (tmp_path / "out/last_epoch=2.pt").exists()


def _fail():
    raise OSError("power cut")


def test_a_training_from_a_manifest_leaves_the_clients_weights_alone(tmp_path, models):
    build(tmp_path / "out", 1, ckpt_dir=models).run()
    assert (models / "model.pt").read_bytes() == b"shipped"
    assert [path.name for path in models.iterdir()] == ["model.pt"]
    with pytest.raises(InputError, match="from an earlier run: continue it with --resume true"):
        build(tmp_path / "out", 1, ckpt_dir=models).run()


def test_a_folder_that_cannot_be_written_costs_no_training(tmp_path, caplog):
    (tmp_path / "models").write_text("a file")
    trainer = train(tmp_path / "out", tmp_path / "models")
    assert trainer.state.epoch == 2
    assert any(f"the best weights are in {tmp_path / 'out/model.pt'}" in line for line in caplog.messages)


def test_a_copy_that_fails_leaves_what_was_there(tmp_path, models, monkeypatch, caplog):
    best = tmp_path / "model.pt"
    best.write_bytes(b"trained")
    weights = ClientWeights(best, models)
    weights.begin()
    monkeypatch.setattr(os, "replace", lambda *paths: _fail())
    weights.publish()
    assert (models / "model.pt").read_bytes() == b"shipped"
    assert [path.name for path in models.iterdir()] == ["model.pt"]
    assert "power cut" in caplog.text


def test_without_validation_cases_the_last_epoch_counts(tmp_path, models, caplog):
    trainer = build(tmp_path / "out", 2, cases=hand_over(), ckpt_dir=models)
    trainer.evaluator.state.epoch_length = 0
    assert has_no_cases(trainer.evaluator)
    trainer.run()
    assert (
        f"there are no validation cases: {tmp_path / 'out/model.pt'} gets the weights of each epoch" in caplog.messages
    )
    saved = torch.load(models / "model.pt", weights_only=True)
    assert all(torch.equal(saved[name], value) for name, value in trainer.network.state_dict().items())


def test_images_with_other_channels_are_named(tmp_path):
    cases = [{**case, "image": torch.cat([case["image"]] * 2)} for case in hand_over(2)]
    for number, case in enumerate(cases):
        case["image"] = MetaTensor(case["image"], meta={"filename_or_obj": f"scan_{number}.nii.gz"})
    with pytest.raises(InputError) as caught:
        build(tmp_path, 1, cases=cases).run()
    assert str(caught.value).startswith("the network expects 1 channels, the images have 2 (cases scan_")


def test_items_and_batches_are_named_by_their_files():
    assert name_item({"image": "/a/b/scan.1.nii.gz"}) == "scan.1"
    assert name_item({"image": ["/a/7_1.tif", "/a/7_2.tif"], "case_id": 7}) == "7"
    assert name_item({"image": torch.zeros(1)}) is None
    batch = next(iter(DataLoader(Dataset(hand_over(3)), batch_size=2)))
    assert list_case_ids(batch) == ["scan_0", "scan_1"]
    assert list_case_ids({"image": torch.zeros(1)}) == []


def test_cases_are_handed_over_if_one_has_no_id():
    assert is_handed_over(DataLoader(Dataset([*make_cases(1), *hand_over(1)])))
    assert not is_handed_over(DataLoader(Dataset(make_cases(2))))
    assert not is_handed_over(None)


def test_settings_need_no_manifest_but_notice_other_cases(tmp_path):
    first, same, other = (
        describe_settings({}, DataLoader(Dataset(hand_over(count))), manifest=tmp_path / "none") for count in (3, 3, 4)
    )
    assert first["manifest"] is None
    assert first["train_cases"] == same["train_cases"] != other["train_cases"]
    with pytest.raises(FileNotFoundError):
        describe_settings({}, DataLoader(Dataset(make_cases(1))), manifest=tmp_path / "none")


def test_tables_have_a_row_for_each_file_even_of_one_name(tmp_path, caplog):
    trainer = build(tmp_path, 1)
    cases = hand_over(3)
    cases[2]["image"].meta["filename_or_obj"] = "/elsewhere/scan_1.nii.gz"
    evaluator = trainer.evaluator
    evaluator.data_loader = DataLoader(Dataset(cases))
    evaluator.state.epoch_length = 3
    handlers.CaseMetricsSaver(tmp_path, metric_details=KEY).attach(evaluator)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            evaluator.run()
    with (tmp_path / f"{KEY}_raw.csv").open() as table:
        assert [row[0] for row in csv.reader(table)][1:] == ["scan_0", "scan_1", "scan_1_2"]
    told = [line for line in caplog.messages if "case_id" in line]
    assert told == [f"the cases have no case_id: {tmp_path} names them by their image's files"]


def test_a_record_of_handed_over_cases_names_no_manifest(tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({}))
    trainer = build(tmp_path / "out", 1, cases=hand_over(), manifest=manifest, dataset_dir="data")
    trainer.run()
    assert read_record(tmp_path / "out")["manifest"] is None
    trainer = build(tmp_path / "ours", 1, manifest=manifest, dataset_dir="data")
    trainer.run()
    record = read_record(tmp_path / "ours")
    assert (record["manifest"]["path"], record["dataset_dir"]) == (str(manifest), "data")
