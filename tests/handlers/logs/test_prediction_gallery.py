"""PredictionGallery: which cases, when it is written, and what keeps a training going."""

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image

from pipeline.handlers import PredictionGallery, TrainingCheckpoint


class Writer:
    def __init__(self):
        self.images, self.flushed = {}, 0

    def add_image(self, tag, image, step, dataformats):
        assert dataformats == "HWC"
        self.images[tag, step] = image

    def flush(self):
        self.flushed += 1


def make_output(value=1.0, with_label=True):
    pred = torch.zeros(1, 8, 16)
    pred[0, 2:6, 2:6] = value
    output = {"image": torch.rand(1, 8, 16), "pred": pred}
    return {**output, "label": pred.clone()} if with_label else output


def make_evaluator(**options):
    return Engine(lambda engine, batch: [make_output(**options) for _ in batch])


def read_picture(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_an_evaluation_draws_its_first_cases_at_the_end(tmp_path):
    writer, evaluator = Writer(), make_evaluator()
    PredictionGallery(tmp_path / "out", summary_writer=writer, max_cases=3, width=64).attach(evaluator)
    assert not (tmp_path / "out").exists()
    evaluator.run([[{"case_id": "a"}, {"case_id": "b"}], [{"case_id": "a"}], [{"case_id": "c"}, {"case_id": "d"}]])
    figure = read_picture(tmp_path / "out/predictions.png")
    assert figure.shape == (14 + 3 * (14 + 32), 4 * 64 + 3 * 4, 3)
    assert np.array_equal(writer.images["predictions", 1], figure)
    assert writer.flushed == 1


def test_without_label_there_is_no_column_of_truth(tmp_path):
    evaluator = make_evaluator(with_label=False)
    PredictionGallery(tmp_path, filename="a.png", width=64).attach(evaluator)
    evaluator.run([[{}, {}]])
    assert read_picture(tmp_path / "a.png").shape == (14 + 2 * (14 + 32), 3 * 64 + 2 * 4, 3)


def train(tmp_path, metrics, writer):
    """Train as many epochs as there are metrics, with a validation in each; return the engine's figure by epoch."""
    network = torch.nn.Linear(1, 1)
    evaluator, trainer = make_evaluator(), Engine(lambda engine, batch: None)

    def validate(engine):
        evaluator.state.epoch, evaluator.state.max_epochs = engine.state.epoch - 1, engine.state.epoch
        evaluator.state.iteration = 0
        evaluator.run([[{"case_id": "a"}]])

    def score(engine):
        engine.state.metrics["dice"] = metrics[engine.state.epoch - 1]

    evaluator.add_event_handler(Events.EPOCH_COMPLETED, score)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    TrainingCheckpoint(tmp_path, {"network": network}, evaluator, key_metric="dice").attach(trainer)
    PredictionGallery(tmp_path, evaluator, writer, width=64).attach(trainer)
    trainer.run([0], max_epochs=len(metrics))


def test_a_training_draws_what_its_best_weights_predict(tmp_path):
    writer = Writer()
    train(tmp_path, [0.5, 0.4, 0.7, 0.6], writer)
    assert [step for _, step in writer.images] == [1, 3]
    assert np.array_equal(read_picture(tmp_path / "predictions.png"), writer.images["predictions", 3])


def test_a_training_without_a_best_draws_nothing(tmp_path):
    train(tmp_path, [float("nan")], Writer())
    assert not (tmp_path / "predictions.png").exists()


def test_a_figure_that_cannot_be_written_does_not_end_a_training(tmp_path, caplog):
    (tmp_path / "out").touch()
    evaluator = make_evaluator()
    PredictionGallery(tmp_path / "out").attach(evaluator)
    evaluator.run([[{"case_id": "a"}]])
    assert f"cannot write {tmp_path / 'out/predictions.png'}" in caplog.text


def test_other_ranks_do_not_draw(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    evaluator = make_evaluator()
    PredictionGallery(tmp_path).attach(evaluator)
    evaluator.run([[{"case_id": "a"}]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"max_cases": 0}, {"channels": [0, 1]}])
def test_wrong_arguments(options, tmp_path):
    with pytest.raises(ValueError, match=r"at least 1|one or three"):
        PredictionGallery(tmp_path, **options)
