"""CasePicturesSaver: which cases are kept, how volumes are turned, what a killed or failed run leaves."""

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric

from pipeline.handlers import CasePicturesSaver
from pipeline.handlers.logs.slice_views import MOST_SLICES, SIDE, take_slices
from pipeline.issues import InputError
from pipeline.runs.case_slices import CaseSlices, list_slices, read_slices, write_slices


def evaluate(folder, sizes, **options):
    """Case k predicts sizes[k] of 16 true pixels, so its Dice is 2 s / (s + 16)."""
    cases = []
    for number, size in enumerate(sizes):
        image = torch.zeros(1, 4, 4)
        image.view(-1)[:size] = 1
        cases.append({"case_id": f"case {number}", "image": image, "label": torch.ones(1, 4, 4)})
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(cases), batch_size=2),
        network=torch.nn.Identity(),
        key_val_metric={
            "dice_image": IgniteMetricHandler(metric_fn=DiceMetric(), output_transform=from_engine(["pred", "label"]))
        },
        val_handlers=[CasePicturesSaver(folder, **options)],
    )
    evaluator.run()


def test_the_best_the_median_and_the_worst_cases_are_kept(tmp_path):
    (tmp_path / "run" / ".case_pictures-old").mkdir(parents=True)
    (tmp_path / "run" / "case_pictures").mkdir()
    (tmp_path / "run" / "case_pictures" / "old.npz").write_bytes(b"")
    evaluate(tmp_path / "run", [16, 1, 8, 12, 3, 9, 2], each=1)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["case_pictures"]
    found = list_slices(tmp_path / "run")
    assert sorted(found) == ["case 0", "case 1", "case 2"]
    case = read_slices(found["case 2"])
    assert case.truth is not None
    assert (int(case.pred.sum()), int(case.truth.sum()), case.total) == (8, 16, 1)


def test_the_slices_of_a_volume_hang_as_a_radiologist_sees_them():
    """Axes to the left, posterior and superior: one voxel on the patient's right at the front, in slice 3 of 5."""
    truth = torch.zeros(1, 6, 8, 5)
    truth[0, 1, 2, 3] = 1
    affine = torch.diag(torch.tensor([-1.0, -2.0, 3.0, 1.0], dtype=torch.float64))
    volume = MetaTensor(truth * 100, affine=affine)
    case = take_slices("a", volume, MetaTensor(truth, affine=affine), MetaTensor(truth * 0, affine=affine))
    assert (case.numbers.tolist(), case.total, case.aspect) == ([4], 5, 2.0)
    assert case.truth is not None
    assert np.argwhere(case.truth[0]).tolist() == [[2, 1]]
    assert case.image[0][2, 1] == 255


def test_a_long_volume_is_thinned_out_but_keeps_its_worst_slice():
    truth = torch.zeros(1, 600, 300, 100)
    truth[0, :100, :100, 10:90] = 1
    pred = truth.clone()
    pred[..., 37] = 0
    case = take_slices("a", torch.rand(3, 600, 300, 100), truth, pred)
    assert (case.image.shape, case.total) == ((MOST_SLICES, SIDE, 128, 3), 100)
    assert 38 in case.numbers
    assert (min(case.numbers), max(case.numbers)) == (11, 90)


def test_a_failed_evaluation_leaves_nothing(tmp_path):
    def step(engine, batch):
        if engine.state.iteration == 2:
            raise RuntimeError("broken")
        mask = torch.ones(1, 4, 4)
        return [{"image": mask, "pred": mask, "label": mask}]

    evaluator = Engine(step)
    CasePicturesSaver(tmp_path).attach(evaluator)
    with pytest.raises(RuntimeError):
        evaluator.run([[{"case_id": "a"}], [{"case_id": "b"}]])
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_not_removed(tmp_path, caplog):
    (tmp_path / "case_pictures").mkdir()
    (tmp_path / "case_pictures" / "notes.txt").write_text("mine")
    evaluate(tmp_path, [16, 1])
    assert [path.name for path in tmp_path.rglob("*")] == ["case_pictures", "notes.txt"]
    assert "case_pictures: directory not empty" in caplog.text


def test_a_case_that_cannot_be_drawn_does_not_stop_the_evaluation(tmp_path, caplog):
    mask, other = torch.ones(1, 4, 4), torch.ones(1, 5, 5)

    def step(engine, batch):
        return [{"image": mask, "pred": mask, "label": mask if item["case_id"] == "a" else other} for item in batch]

    evaluator = Engine(step)
    CasePicturesSaver(tmp_path).attach(evaluator)
    evaluator.run([[{"case_id": "b"}], [{"case_id": "a"}]])
    assert list(list_slices(tmp_path)) == ["a"]
    assert "no picture of case b in" in caplog.text


def test_a_file_that_is_cut_off_is_named(tmp_path):
    blank = np.zeros((1, 4, 4), dtype=np.uint8)
    path = tmp_path / "1.npz"
    write_slices(CaseSlices("a/b", blank, blank.astype(np.uint16), None, np.ones(1, dtype=np.int64)), path)
    assert read_slices(path).case_id == "a/b"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"1\.npz: this is not the picture of a case, or it is cut off; run"):
        read_slices(path)


@pytest.mark.parametrize("options", [{"each": 0}, {"channels": [1, 2]}])
def test_bad_options(tmp_path, options):
    with pytest.raises(ValueError, match="must"):
        CasePicturesSaver(tmp_path, **options)
