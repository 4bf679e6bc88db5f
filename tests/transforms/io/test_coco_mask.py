"""LoadCocoMask: the mask matches the image pixel by pixel, in the axis order of MONAI's image."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image

from pipeline.datasets import load_datalist, read_manifest
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest_file import write_manifest
from pipeline.datasets.phantoms import write_coco_phantom
from pipeline.issues import InputError
from pipeline.transforms import LoadCocoMask, LoadCocoMaskd

HEIGHT, WIDTH = 20, 33
SHAPES = (
    (1, [[3, 2, 15, 2, 15, 9, 3, 9]]),
    (2, [[20, 5, 31, 5, 31, 8, 24, 8, 24, 18, 20, 18]]),
    (1, {"size": [HEIGHT, WIDTH], "counts": [10, 5, HEIGHT * WIDTH - 15]}),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Folder with one picture that is bright where its annotations are, its true mask, and its manifest."""
    root = tmp_path_factory.mktemp("dataset")
    (root / "train").mkdir()
    rows = [
        {"id": k, "image_id": 5, "category_id": category, "segmentation": shape}
        for k, (category, shape) in enumerate(SHAPES)
    ]
    data = {
        "images": [{"id": 5, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "solid"}, {"id": 2, "name": "cyst"}],
        "annotations": rows,
    }
    (root / "train" / "_annotations.coco.json").write_text(json.dumps(data))
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[2:9, 3:15] = 1
    truth[10:15, 0] = 1
    truth[5:8, 20:31] = truth[8:18, 20:24] = 2
    Image.fromarray(np.stack([truth * 100] * 3, axis=-1)).save(root / "train" / "a.png")
    manifest = read_layout("coco", root, categories="keep").manifest
    write_manifest(manifest, root / "manifest.json")
    return root, truth


def test_the_mask_lies_on_the_image_as_monai_loads_it(dataset):
    root, _ = dataset
    item = load_datalist(root / "manifest.json", root, "train", None)[0]
    load = Compose(
        [LoadImaged("image"), EnsureChannelFirstd("image"), LoadCocoMaskd("label", manifest=root / "manifest.json")]
    )
    data = load(item)
    assert data["image"].shape == (3, WIDTH, HEIGHT)
    assert data["label"].shape == (1, WIDTH, HEIGHT)
    # The image was painted with the true mask.
    assert torch.equal(data["image"].as_tensor()[:1], 100 * data["label"].as_tensor())
    assert torch.equal(data["label"].affine, data["image"].affine)
    assert data["label"].meta["spatial_shape"].tolist() == data["image"].meta["spatial_shape"].tolist()


def test_rows_first_without_reverse_indexing(dataset):
    root, truth = dataset
    path = f"{root}/train/_annotations.coco.json#5"
    rows_first = LoadCocoMask(root / "manifest.json", reverse_indexing="false")(path)
    assert rows_first.shape == (1, HEIGHT, WIDTH)
    np.testing.assert_array_equal(rows_first[0], truth)
    assert torch.equal(LoadCocoMask(root / "manifest.json")([path])[0].T, rows_first[0])


def test_labels_objects_and_dtype(dataset):
    root, _ = dataset
    path = f"{root}/train/_annotations.coco.json#5"
    mask = LoadCocoMask(root / "manifest.json")(path)
    assert isinstance(mask, MetaTensor)
    assert mask.dtype == torch.float32
    assert mask.unique().tolist() == [0, 1, 2]
    objects = LoadCocoMask(root / "manifest.json", instances=True, dtype=torch.int32)(path)
    assert objects.dtype == torch.int32
    assert objects.unique().tolist() == [0, 1, 2, 3]
    assert LoadCocoMask(root / "manifest.json", dtype=torch.uint8)(path).dtype == torch.uint8


def test_categories_and_crowds_come_from_the_manifest(dataset, tmp_path):
    root, _ = dataset
    manifest = read_manifest(root / "manifest.json")
    swapped = replace(manifest, coco={"categories": {"1": 0, "2": 7}, "crowd": "ignore"})
    write_manifest(swapped, tmp_path / "m.json")
    mask = LoadCocoMask(tmp_path / "m.json")(f"{root}/train/_annotations.coco.json#5")
    assert mask.unique().tolist() == [0, 7]


def test_voxel_counts_are_those_of_the_manifest(tmp_path):
    path = write_coco_phantom(tmp_path, images=8, size=32)
    manifest = read_manifest(path)
    load = LoadCocoMask(path)
    for case in manifest.cases:
        assert int(load(tmp_path / "export" / case.label[0]).sum()) == case.facts["foreground"]


def test_workers_get_a_copy_and_tell_what_is_wrong(dataset):
    root, _ = dataset
    load = pickle.loads(pickle.dumps(LoadCocoMaskd("label", root / "manifest.json")))
    good = {"label": f"{root}/train/_annotations.coco.json#5"}
    batch = next(iter(DataLoader(Dataset([good, good], load), batch_size=2, num_workers=1)))
    assert batch["label"].shape == (2, 1, WIDTH, HEIGHT)
    bad = {"label": f"{root}/train/none.json#5"}
    with pytest.raises(RuntimeError, match=r"cannot read the annotations .*none\.json"):
        next(iter(DataLoader(Dataset([bad], load), num_workers=1)))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.json", r"expected one path like annotations\.json#<image id>, got \['a\.json'\]"),
        ([], r"expected one path like .*, got \[\]"),
        (["a.json#1", "a.json#2"], "expected one path like"),
        ("{root}/train/_annotations.coco.json", "expected one path like"),
        ("{root}/train/_annotations.coco.json#6", "coco-reference .*: no image with the id 6"),
        ("{root}/none.json#5", "cannot read the annotations .*No such file"),
    ],
)
def test_wrong_paths(dataset, path, text):
    root, _ = dataset
    path = path.format(root=root) if isinstance(path, str) else path
    with pytest.raises((InputError, ValueError), match=text):
        LoadCocoMask(root / "manifest.json")(path)


def test_a_manifest_that_does_not_say_how(dataset, tmp_path):
    root, _ = dataset
    write_manifest(replace(read_manifest(root / "manifest.json"), coco=None), tmp_path / "m.json")
    with pytest.raises(InputError, match=r"does not say how annotations become masks \(key 'coco'\); build it with"):
        LoadCocoMask(tmp_path / "m.json")


@pytest.mark.parametrize(("stored", "reverse"), [((0, 1, 2), False), ((0, 255), False), ((0, 255), True)])
def test_a_mask_of_a_client_needs_no_manifest(stored, reverse, tmp_path):
    truth = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % len(stored)
    Image.fromarray(np.array(stored, np.uint8)[truth]).save(tmp_path / "a.png")
    load = LoadCocoMask(tmp_path / "none.json", reverse_indexing=reverse)
    mask = load(str(tmp_path / "a.png"))
    assert (mask.dtype, mask.meta["filename_or_obj"]) == (torch.float32, str(tmp_path / "a.png"))
    np.testing.assert_array_equal(mask[0], truth.T if reverse else truth)
    with pytest.raises(InputError, match=r"none\.json"):
        load("annotations.json#1")


def test_dictionary(dataset):
    root, _ = dataset
    data = {"label": f"{root}/train/_annotations.coco.json#5", "case_id": "a"}
    result = LoadCocoMaskd(["label", "other"], root / "manifest.json", allow_missing_keys=True)(data)
    assert (result["case_id"], isinstance(data["label"], str)) == ("a", True)
    with pytest.raises(KeyError):
        LoadCocoMaskd("other", root / "manifest.json")(data)


@pytest.mark.realdata
def test_real_polygons_lie_on_the_image(shared_data, tmp_path):
    root = shared_data / "brain_tumor_coco_br35h"
    path = write_manifest(read_layout("coco", root).manifest, tmp_path / "m.json")
    items = load_datalist(path, root, "val", None, check=False)
    load = Compose([LoadImaged("image"), EnsureChannelFirstd("image"), LoadCocoMaskd("label", path)])
    contrasts = {False: [], True: []}
    for item in items[:20]:
        data = load(item)
        assert data["image"].shape[1:] == data["label"].shape[1:]
        for turned, contrast in contrasts.items():
            mask = data["label"][0].T if turned else data["label"][0]
            inside = data["image"][0][mask > 0]
            contrast.append(float(inside.mean() - data["image"][0][mask == 0].mean()))
    # Tumours are bright; outlines with rows and columns exchanged would miss them.
    assert np.mean(contrasts[False]) > np.mean(contrasts[True]) + 10
