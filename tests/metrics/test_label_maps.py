"""Input of metrics: rejected values, channels and shapes; known and unknown voxel sizes."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, LoadImaged, Orientationd, Spacingd
from PIL import Image

import pipeline.metrics
from pipeline.issues import InputError
from pipeline.metrics import (
    BackgroundAccuracy,
    CaseCount,
    HausdorffDistance95,
    LabelDice,
    LabelIoU,
    LabelMetric,
    PixelAccuracy,
    PooledDice,
    PooledIoU,
    SurfaceDice,
    ThresholdedJaccard,
)
from pipeline.metrics.label_maps import find_spacing
from pipeline.metrics.labelwise import LabelwiseMetric
from pipeline.metrics.pooled import _PooledShare

ONES = torch.ones(1, 4, 4)


def build_all():
    """One of each of our metrics that read maps of class ids, with two classes besides the background."""
    from monai.metrics import DiceMetric

    labels = [1, 2]
    return [
        LabelDice(labels),
        LabelIoU(labels),
        ThresholdedJaccard(labels=labels),
        PooledDice(labels),
        PooledIoU(labels),
        PixelAccuracy(3),
        BackgroundAccuracy(3),
        HausdorffDistance95(labels, unit="voxels"),
        SurfaceDice(1, labels, unit="voxels"),
        CaseCount("missed", labels),
        LabelMetric(DiceMetric(), label=1, num_classes=3),
    ]


EVERY = pytest.mark.parametrize("metric", build_all(), ids=lambda metric: type(metric).__name__)


def test_no_metric_of_class_ids_is_forgotten_here():
    ours = [getattr(pipeline.metrics, name) for name in pipeline.metrics.__all__]
    ours = {item for item in ours if issubclass(item, LabelwiseMetric | _PooledShare | LabelMetric)}
    assert ours == {type(metric) for metric in build_all()}


@EVERY
@pytest.mark.parametrize(
    ("pred", "label", "message"),
    [
        (ONES * 0.4, ONES, "pred has the values 0.4, expected class ids from 0 to 2: put AsDiscreted before"),
        (ONES, ONES * 255, "label has the values 255, expected class ids from 0 to 2: put EncodeMaskd into"),
        (ONES, -ONES, "label has the values -1, expected"),
        (ONES * float("nan"), ONES, "pred has the values nan, expected"),
        (ONES * 3, ONES, "pred has the values 3, expected"),
        (
            torch.zeros(3, 4, 4),
            torch.zeros(3, 4, 4),
            r"pred has the shape (3, 4, 4), expected one channel of class ids",
        ),
        (ONES, torch.zeros(3, 4, 4), r"label has the shape (3, 4, 4), expected one channel"),
        (ONES, torch.ones(1, 4, 5), "pred has the shape (1, 4, 4), label (1, 4, 5): put Invertd before the metric"),
        (torch.ones(1), torch.ones(1), "pred has the shape (1,), expected one channel"),
    ],
)
def test_what_is_no_map_of_class_ids_is_refused_in_one_line(metric, pred, label, message):
    with pytest.raises(InputError) as caught:
        metric([pred], [label])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@EVERY
def test_missing_label_is_refused(metric):
    with pytest.raises(InputError, match="got no label"):
        metric([ONES], None)


@pytest.mark.parametrize("metric", build_all()[:-1], ids=lambda metric: type(metric).__name__)
def test_nothing_seen_has_no_mean(metric):
    assert metric.get_buffer() is None
    value = metric.aggregate().item()
    assert value == 0 if isinstance(metric, CaseCount) else np.isnan(value)


@EVERY
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_lists_and_batches_of_any_type_score_alike(metric, dtype):
    generator = torch.Generator().manual_seed(0)
    pred, label = torch.randint(0, 3, (2, 3, 1, 6, 5), generator=generator).to(dtype)
    metric.reset()
    batch = metric(pred, label)
    buffer = metric.get_buffer()
    metric.reset()
    assert torch.equal(metric(list(pred), list(label)), batch)
    assert torch.equal(metric.get_buffer(), buffer)
    assert len(buffer) == 3


def test_message_names_the_file_and_few_of_many_values():
    label = MetaTensor(torch.arange(16.0).reshape(1, 4, 4), meta={"filename_or_obj": "a/mask.png"})
    with pytest.raises(InputError) as caught:
        LabelDice()([ONES], [label])
    assert "label a/mask.png has the values 0, 1, 2, 3, 4, ..., 15 (16 different), expected" in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([], None, "labels must be different class ids from 1 up"),
        ([0, 1], None, "labels must be different class ids from 1 up .0 is the background., got"),
        ([1, 1], None, "labels must be different"),
        ([1.5], None, "labels must be different"),
        ([1, 3], 3, "labels has class 3, but num_classes is 3, so ids end at 2"),
    ],
)
def test_labels_that_make_no_sense(labels, num_classes, message):
    with pytest.raises(ValueError, match=message):
        LabelDice(labels, num_classes)


def test_classes_beyond_the_labels_must_be_declared():
    label = torch.tensor([[[0, 1, 2]]])
    assert LabelDice(1, num_classes=3)([label], [label]).item() == 1
    with pytest.raises(InputError, match="has the values 0, 1, 2, expected class ids from 0 to 1"):
        LabelDice(1)([label], [label])


def load(path, **options):
    chain = Compose([LoadImaged("label", ensure_channel_first=True, **options)])
    batch = next(iter(DataLoader(Dataset([{"label": path}] * 2, chain), batch_size=2)))
    return batch["label"], [item["label"] for item in decollate_batch(batch)]


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.75, 3.0)])
def test_spacing_of_a_volume_is_read_from_its_file(tmp_path, spacing):
    affine = np.diag([*spacing, 1.0]) @ np.array([[0, -1, 0, 5], [1, 0, 0, 0], [0, 0, 1, -7], [0, 0, 0, 1.0]])
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), affine), tmp_path / "a.nii.gz")
    batch, items = load(tmp_path / "a.nii.gz")
    wanted = pytest.approx((spacing[1], spacing[0], spacing[2]))  # the first axis of the array runs along y
    assert find_spacing(batch, 1) == wanted
    assert find_spacing(items[0][None]) == wanted
    moved = Compose([Orientationd("label", "RAS", labels=None), Spacingd("label", (2.0, 1.0, 1.5), mode="nearest")])
    assert find_spacing(moved({"label": items[0]})["label"][None]) == pytest.approx((2.0, 1.0, 1.5))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_picture_has_no_spacing(tmp_path, suffix):
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / f"a{suffix}")
    batch, items = load(tmp_path / f"a{suffix}", reader="PILReader")
    assert (find_spacing(batch), find_spacing(items[1][None])) == (None, None)


@pytest.mark.parametrize("size", [0.0, float("nan"), float("inf")])
def test_broken_affine_has_no_spacing(size):
    affine = torch.diag(torch.tensor([1.0, size, 1.0, 1.0]))
    assert (
        find_spacing(MetaTensor(torch.zeros(1, 1, 4, 4, 4), affine=affine, meta={"filename_or_obj": "a.nii.gz"}))
        is None
    )


@pytest.mark.parametrize("metric", [HausdorffDistance95(), SurfaceDice(1)], ids=["hd95", "nsd"])
@pytest.mark.parametrize("label", [ONES, MetaTensor(ONES)], ids=["plain", "meta"])
def test_surface_metrics_refuse_unknown_spacing(metric, label):
    with pytest.raises(InputError) as caught:
        metric([ONES], [label])
    assert str(caught.value) == (
        f"{type(metric).__name__}: the label has no voxel size; set spacing (mm along each axis), "
        'or unit to "voxels" and say so in the metric\'s name'
    )
