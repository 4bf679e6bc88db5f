"""SegmentationFigures: which slice, which cases, and what lands in TensorBoard."""

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from pipeline.handlers import SegmentationFigures
from pipeline.handlers.logs.segmentation_figures import draw_case
from pipeline.pictures.figures import PALETTE, TRUTH_COLOUR


class Writer:
    def __init__(self):
        self.images, self.flushed = {}, 0

    def add_image(self, tag, image, step, dataformats):
        self.images[tag, step] = image
        assert dataformats == "HWC"

    def flush(self):
        self.flushed += 1


def make_output(shape=(3, 8, 8, 5), at=3):
    label = torch.zeros(1, *shape[1:])
    label[0, 2:5, 2:5, at:] = 1
    return {"image": MetaTensor(torch.rand(shape)), "label": MetaTensor(label), "pred": torch.zeros_like(label)}


def validate(handler, batches, epochs=1):
    """Run an evaluator over lists of items, as MONAI leaves them: decollated."""

    def step(engine, batch):
        return [make_output() for _ in batch]

    evaluator = Engine(step)
    handler.attach(evaluator)
    evaluator.run(batches, max_epochs=epochs)


def has_colour(picture, colour):
    return (picture == colour).all(axis=-1).any()


def test_the_first_cases_of_every_validation():
    writer = Writer()
    batches = [[{"case_id": "a"}], [{"case_id": "b"}], [{"case_id": "a"}], [{"case_id": "c"}]]
    validate(SegmentationFigures(summary_writer=writer, max_cases=2), batches, epochs=2)
    assert list(writer.images) == [("cases/a", 1), ("cases/b", 1), ("cases/a", 2), ("cases/b", 2)]
    assert writer.flushed == 1


def test_interval_and_step():
    writer = Writer()
    steps = iter(range(1, 5))
    handler = SegmentationFigures(summary_writer=writer, interval=2, global_epoch_transform=lambda: next(steps))
    validate(handler, [[{"case_id": "a"}]], epochs=4)
    assert list(writer.images) == [("cases/a", 2), ("cases/a", 4)]


def test_a_case_without_a_name():
    writer = Writer()
    validate(SegmentationFigures(summary_writer=writer), [[{}, {}]])
    assert list(writer.images) == [("cases/case_0", 1), ("cases/case_1", 1)]


def test_events_are_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    handler = SegmentationFigures(tmp_path / "events")
    assert not (tmp_path / "events").exists()
    validate(handler, [[{"case_id": "a"}]])
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert events.Tags()["images"] == ["cases/a"]


def test_nothing_drawn_nothing_written(tmp_path):
    validate(SegmentationFigures(tmp_path / "events", max_cases=0), [[{"case_id": "a"}]])
    assert not (tmp_path / "events").exists()


@pytest.mark.parametrize(("truth", "guess", "shown"), [(3, 1, 3), (None, 1, 1), (None, None, 2)])
def test_the_slice_with_most_truth_else_most_prediction_else_the_middle(truth, guess, shown):
    image = torch.zeros(1, 8, 8, 5)
    image[0, 0, :4] = torch.arange(5.0) / 4  # brightness tells the slice
    image[0, 7] = 1
    image[0, 6] = -1
    masks = [torch.zeros(1, 8, 8, 5) for _ in range(2)]
    for mask, index in zip(masks, (truth, guess), strict=True):
        if index is not None:
            mask[0, 2:5, 2:5, index] = 1
    panel = draw_case(image, *masks)
    expected = np.round((shown / 4 + 1) / 2 * 255)
    assert abs(int(panel[0, 0, 0]) - expected) <= 2
    assert has_colour(panel, TRUTH_COLOUR) == (truth is not None)


def test_a_plain_image_and_one_hot_masks():
    label = torch.zeros(3, 8, 8)
    label[0] = 1
    label[:, 2:5, 2:5] = torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1, 1)
    panel = draw_case(torch.rand(1, 8, 8), label, label)
    assert panel.shape == (8, 32, 3)
    assert has_colour(panel[:, 12:20], PALETTE[1]), "label 2 of the truth"
    assert has_colour(panel[:, 24:], PALETTE[1]), "label 2 of the prediction"


def test_channels_to_show():
    image = torch.zeros(9, 4, 4)
    image[7, 0, 0] = 1
    empty = torch.zeros(1, 4, 4)
    assert draw_case(image, empty, empty)[:, :4].max() == 0
    assert draw_case(image, empty, empty, channels=[7])[0, 0].tolist() == [255, 255, 255]
    assert draw_case(image, empty, empty, channels=[0, 7, 1])[0, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize("options", [{}, {"log_dir": "x", "channels": [0, 1]}])
def test_wrong_arguments(options):
    with pytest.raises(ValueError, match=r"needed|one or three"):
        SegmentationFigures(**options)
