"""ThresholdSearch: scores as with AsDiscrete and our metrics, threshold of the best weights, configs that read it."""

import json
import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import IgniteMetricHandler, ValidationHandler, from_engine
from monai.transforms import Activationsd, AsDiscrete, AsDiscreted, Compose, CopyItemsd

from pipeline.handlers import ThresholdSearch, TrainingCheckpoint
from pipeline.handlers.training.threshold_search import choose_threshold, count_at_thresholds, score_counts
from pipeline.issues import InputError
from pipeline.metrics import LabelDice, LabelIoU, ThresholdedJaccard

METRICS = {"dice": LabelDice, "iou": LabelIoU, "jaccard_65": ThresholdedJaccard}


def draw_case(seed, shape=(1, 8, 9), foreground=0.4):
    """Probabilities that lean to a random truth, many of them exactly on the candidates."""
    generator = np.random.default_rng(seed)
    truth = generator.random(shape) < foreground
    prob = np.clip(generator.normal(0.35 + 0.3 * truth, 0.2), 0, 1)
    prob = np.where(generator.random(shape) < 0.5, prob.round(2), prob)
    return torch.as_tensor(prob, dtype=torch.float32), torch.as_tensor(truth, dtype=torch.uint8)


def feed(search, cases):
    """Run an evaluator that gives these cases, one a batch."""
    engine = Engine(lambda engine, batch: [{"prob": batch[0], "label": batch[1]}])
    search.attach(engine)
    engine.run(cases, max_epochs=1)
    return engine


def read(path):
    return json.loads((path / "threshold.json").read_text())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from([0.0, 0.02, 0.4])), min_size=1, max_size=3),
    st.sampled_from(sorted(METRICS)),
    st.sampled_from(["exclude", "perfect", "truth_only"]),
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
)
def test_curve_equals_thresholding_and_scoring_each_time(drawn, metric, policy, dtype):
    cases = [draw_case(seed, foreground=foreground) for seed, foreground in drawn]
    thresholds = [0.05, 0.3, 0.35, 0.5, 0.62, 0.9]
    for prob, truth in cases:
        counts = count_at_thresholds(prob.to(dtype), truth > 0, thresholds)
        scores = score_counts(counts, metric, policy)
        for k, threshold in enumerate(thresholds):
            expected = METRICS[metric](empty_policy=policy)
            discrete = AsDiscrete(threshold=threshold)(prob.to(dtype))
            assert expected([discrete], [truth]).item() == pytest.approx(scores[k].item(), abs=1e-6, nan_ok=True)
            assert expected.get_counts()[0, 0].tolist() == counts[k].tolist()


@pytest.mark.parametrize("metric", METRICS)
def test_threshold_written_is_the_best_of_all_and_both_means_are_told(tmp_path, metric):
    cases = [draw_case(seed) for seed in range(5)]
    feed(ThresholdSearch(tmp_path, metric=metric), cases)
    means = {}
    for percent in range(5, 96):
        scored = METRICS[metric]()
        for prob, truth in cases:
            scored([AsDiscrete(threshold=percent / 100)(prob)], [truth])
        means[percent / 100] = scored.aggregate().item()
    written = read(tmp_path)
    assert set(written) == {"_desc_", "threshold"}
    best = max(means.values())
    assert means[written["threshold"]] == pytest.approx(best, abs=1e-6)
    assert written["_desc_"] == (
        f"chosen on 5 cases of split val: mean {metric} {best:.4f} at {written['threshold']:g}, "
        f"{means[0.5]:.4f} at 0.5 (empty_policy exclude)"
    )


def test_hand_case():
    """Truth 0.6 and 0.4, background 0.3: thresholds above 0.3 and up to 0.4 are right, and 0.4 is nearest to 0.5."""
    prob, truth = torch.tensor([[[0.6, 0.4, 0.3]]]), torch.tensor([[[1, 1, 0]]])
    counts = count_at_thresholds(prob, truth > 0, [0.3, 0.31, 0.4, 0.5, 0.7])
    assert counts.tolist() == [[2, 1, 0], [2, 0, 0], [2, 0, 0], [1, 0, 1], [0, 0, 2]]
    curve = score_counts(counts, "dice", "exclude").tolist()
    assert curve == pytest.approx([0.8, 1, 1, 2 / 3, 0])
    assert choose_threshold([0.3, 0.31, 0.4, 0.5, 0.7], curve) == 0.4


@pytest.mark.parametrize(
    ("thresholds", "curve", "chosen"),
    [
        ([0.1, 0.5, 0.9], [0.7, 0.7, 0.7], 0.5),
        ([0.45, 0.5, 0.55], [0.8, 0.7, 0.8], 0.45),
        ([0.05, 0.5, 0.95], [math.nan, math.nan, 0.0], 0.95),
        ([0.4, 0.5, 0.7], [0.9, 0.3, 0.9 + 1e-15], 0.4),
    ],
)
def test_among_equals_the_nearest_to_one_half(thresholds, curve, chosen):
    assert choose_threshold(thresholds, curve) == chosen


def test_pixel_without_a_probability_is_background():
    prob, truth = torch.tensor([math.nan, 0.9]), torch.tensor([True, True])
    assert count_at_thresholds(prob, truth, [0.05, 0.5]).tolist() == [[1, 0, 1], [1, 0, 1]]


def test_meta_tensors_and_volumes(tmp_path):
    prob, truth = draw_case(3, shape=(1, 4, 5, 6))
    feed(ThresholdSearch(tmp_path, thresholds=[0.4]), [(MetaTensor(prob), MetaTensor(truth))])
    assert read(tmp_path)["threshold"] in (0.4, 0.5)


def test_every_validation_starts_afresh(tmp_path):
    search = ThresholdSearch(tmp_path)
    engine = feed(search, [draw_case(0)])
    engine.run([draw_case(1), draw_case(2)], max_epochs=1)
    assert read(tmp_path)["_desc_"].startswith("chosen on 2 cases of split val")


def test_what_a_killed_run_left_is_removed(tmp_path):
    (tmp_path / ".threshold.json.123.tmp").write_text("{")
    (tmp_path / ".mine.tmp").write_text("")
    feed(ThresholdSearch(tmp_path), [draw_case(0)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "threshold.json"]


def test_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"threshold\.json cannot be written: "):
        feed(ThresholdSearch(tmp_path / "file"), [draw_case(0)])


def test_curve_is_logged_in_one_line(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="pipeline.handlers.training.threshold_search"):
        feed(ThresholdSearch(tmp_path), [draw_case(0)])
    (record,) = caplog.records
    assert record.getMessage().startswith(f"threshold {read(tmp_path)['threshold']:g}: chosen on 1 cases of split val")
    assert "; curve 0.05: 0." in record.getMessage()
    assert "\n" not in record.getMessage()


def test_set_without_any_score_writes_nothing_and_says_so(tmp_path, caplog):
    feed(ThresholdSearch(tmp_path), [(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))])
    assert "is not written: none of 1 cases has a score at any threshold" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("split", ["test", "Test", "sealed_test", "train", "test-2017"])
def test_other_splits_than_validation_are_refused(tmp_path, split):
    with pytest.raises(InputError) as caught:
        ThresholdSearch(tmp_path, split=split)
    assert f"a threshold is chosen on validation cases only, not on split {split!r}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert ThresholdSearch(tmp_path, split="val_contest").split == "val_contest"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "hd95"}, "metric must be one of dice, iou, jaccard_65, got 'hd95'"),
        ({"thresholds": [0.2, 1.0]}, r"thresholds must lie between 0 and 1, got \[0.2, 1.0\]"),
        ({"empty_policy": "zero"}, "empty_policy must be one of"),
    ],
)
def test_options_that_make_no_sense(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ThresholdSearch(tmp_path, **options)


ONES = torch.ones(1, 2, 2)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"label": ONES}, "output has no 'prob'; in postprocessing, after Activationsd, copy 'pred' to 'prob' with"),
        ({"prob": ONES}, "output has no 'label'"),
        ({"prob": ONES * 7.5 - 3, "label": ONES}, "'prob' goes from 4.5 to 4.5, expected probabilities from 0 to 1"),
        ({"prob": ONES.long(), "label": ONES}, "expected probabilities from 0 to 1: put Activationsd with sigmoid"),
        ({"prob": torch.ones(3, 2, 2), "label": torch.ones(3, 2, 2)}, "expected (1, *spatial) on the same grid"),
        ({"prob": ONES, "label": torch.ones(1, 2, 3)}, "'prob' has the shape (1, 2, 2) and 'label' (1, 2, 3)"),
        ({"prob": ONES, "label": ONES * 255}, "label has the values 255, expected class ids from 0 to 1"),
    ],
)
def test_outputs_that_hold_no_probabilities(tmp_path, output, message):
    engine = Engine(lambda engine, batch: [output])
    engine.logger.disabled = True
    ThresholdSearch(tmp_path).attach(engine)
    with pytest.raises(InputError) as caught:
        engine.run([0], max_epochs=1)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


class Shift(torch.nn.Module):
    """Adds a number to the logits; the trainings below set it."""

    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.bias


def build_training(folder, biases, val_interval=1, resume=False):
    """Validation Dice is best where the bias is 0; `biases` by epoch."""
    logits = torch.tensor([[[2.0, 1.0, -1.0, -2.0]]])
    item = {"case_id": "a", "image": logits, "label": (logits > 0).float()}
    network = Shift()
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset([item])),
        network=network,
        postprocessing=Compose(
            [Activationsd("pred", sigmoid=True), CopyItemsd("pred", names="prob"), AsDiscreted("pred", threshold=0.5)]
        ),
        key_val_metric={
            "dice": IgniteMetricHandler(metric_fn=LabelDice(), output_transform=from_engine(["pred", "label"]))
        },
    )
    checkpoint = TrainingCheckpoint(folder, {"network": network}, evaluator, key_metric="dice", resume=resume)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=len(biases),
        train_data_loader=DataLoader(Dataset([item])),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.0),
        loss_function=torch.nn.MSELoss(),
        train_handlers=[
            ValidationHandler(val_interval, evaluator, epoch_level=True),
            checkpoint,
            ThresholdSearch(folder, evaluator),
        ],
    )

    def set_bias(engine):
        network.bias.data.fill_(biases[engine.state.epoch - 1])

    trainer.add_event_handler(Events.EPOCH_STARTED, set_bias)
    return trainer


def test_threshold_of_a_training_belongs_to_the_best_weights(tmp_path):
    # A bias of 1.5 needs a threshold above 0.62 for a perfect Dice, 0 any, -1.5 one up to 0.37.
    build_training(tmp_path, [1.5, -1.1, 0.1, 1.5]).run()
    assert read(tmp_path)["_desc_"].endswith("at 0.5 (empty_policy exclude); best weights so far, epoch 3")
    assert read(tmp_path)["threshold"] == 0.5
    assert torch.load(tmp_path / "model.pt", weights_only=True)["bias"].item() == pytest.approx(0.1)


def test_threshold_of_worse_weights_is_found_too(tmp_path):
    build_training(tmp_path, [1.5]).run()
    assert read(tmp_path)["threshold"] == 0.63  # background at sigmoid(0.5) = 0.622
    assert "epoch 1" in read(tmp_path)["_desc_"]


def test_resumed_training_keeps_the_threshold_of_its_best_weights(tmp_path):
    build_training(tmp_path, [0.1]).run()
    before = read(tmp_path)
    build_training(tmp_path, [0.1, 1.5], resume=True).run()
    assert read(tmp_path) == before


def test_epochs_without_validation_write_nothing(tmp_path):
    build_training(tmp_path, [0.1, 1.5, 0.1], val_interval=2).run()
    assert read(tmp_path)["_desc_"].endswith("epoch 2")


def test_evaluation_reads_what_a_config_list_says(tmp_path):
    """The file is the last of a list of config files, as on the command line of monai.bundle."""
    base = {
        "_desc_": "the bundle",
        "threshold": 0.5,
        "bundle_root": str(tmp_path),
        "discrete": {"_target_": "AsDiscrete", "threshold": "@threshold"},
        "result": {"_target_": "torch.as_tensor", "data": "$@discrete(torch.full((1, 1), 0.4)).tolist()"},
        "imports": ["$import torch"],
        "run": ["$@result"],
    }
    (tmp_path / "inference.json").write_text(json.dumps(base))
    prob = torch.tensor([[[0.4, 0.31, 0.3]]])
    feed(ThresholdSearch(tmp_path, thresholds=[0.4]), [(prob, torch.tensor([[[1, 0, 0]]]))])
    assert read(tmp_path)["threshold"] == 0.4
    files = [str(tmp_path / "inference.json"), str(tmp_path / "threshold.json")]
    for chosen, expected in ((files[:1], 0.0), (files, 1.0)):
        workflow = ConfigWorkflow(config_file=chosen, workflow_type=None, run_id="run", logging_file=False)
        workflow.initialize()
        (found,) = workflow.run()
        assert found.item() == expected
    parser = ConfigParser()
    parser.read_config(files)
    assert parser.get_parsed_content("threshold") == 0.4


def test_disabled_by_a_knob():
    parser = ConfigParser(
        {
            "skip": True,
            "handler": {
                "_target_": "pipeline.handlers.ThresholdSearch",
                "_disabled_": "@skip",
                "output_dir": "a",
                "split": "test",
            },
        }
    )
    assert parser.get_parsed_content("handler") is None
