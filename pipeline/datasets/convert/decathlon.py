"""Medical Segmentation Decathlon (Antonelli et al. 2022): NIfTI volumes, or pictures, and ``dataset.json``."""

from typing import Any

from pipeline.datasets.convert import volumes
from pipeline.datasets.convert.conversion import Conversion, Item
from pipeline.datasets.convert.raster import write_whole_picture
from pipeline.datasets.convert.reading import is_volume
from pipeline.datasets.manifests.manifest import Manifest


def write(conversion: Conversion) -> list[str]:
    """Write a dataset that MONAI's ``load_decathlon_datalist`` reads.

    Its keys ``training``, ``validation`` (only if there is such a split) and ``test`` hold paths. An entry also has its
    ``fold`` and ``subject``, which MONAI's cross-validation tools read. Masks of test cases are in ``labelsTs``. Label
    ids do not change; several channels are the last axis.

    Returns:
        Notes for the user.
    """
    manifest = conversion.manifest
    volumes.make_folders(conversion)
    names = volumes.name_labels(manifest, conversion.items)
    ignored = _number_ignored(manifest, names)
    ids = volumes.id_of_ignored({label: label for label in names}, ignored)
    entries = conversion.map_items(lambda item: _write_item(conversion, item, ids))
    lists: dict[str, list[Any]] = {"training": [], "validation": [], "test": []}
    for item, entry in zip(conversion.items, entries, strict=True):
        if item.case.label is None or item.part == "test":
            lists["test"].append(entry)
        else:
            lists["training" if item.part == "train" else "validation"].append(entry)
    if not any("label" in entry for entry in lists["test"]):
        # Paths only, as in the original sets; MONAI needs all entries to be of one kind.
        lists["test"] = [entry["image"] for entry in lists["test"]]
    if not lists["validation"]:
        del lists["validation"]
    conversion.write_json("dataset.json", {**_describe(conversion, names, ignored), **lists})
    return volumes.describe_losses(manifest, conversion.items)


def _write_item(conversion: Conversion, item: Item, ids: dict[int, int]) -> dict[str, Any]:
    stem = f"{volumes.folder_of(item, 'images')}/{item.name}"
    if is_volume(conversion.manifest, item.case):
        image, ending = stem + volumes.VOLUME_ENDING, volumes.VOLUME_ENDING
        grid = volumes.place_volume(conversion, item, image)
        if grid is None:
            volume = conversion.read_image(item)
            volumes.write_volume(conversion, volume, image)
            grid = volume.grid()
    else:
        image, grid = write_whole_picture(conversion, item, stem)
        ending = ".png"
    entry: dict[str, Any] = {"image": f"./{image}"}
    if item.case.label is not None:
        label = f"{volumes.folder_of(item, 'labels')}/{item.name}{ending}"
        volumes.write_labels(conversion, item, label, ids, grid)
        entry["label"] = f"./{label}"
    if item.fold is not None:
        entry["fold"] = item.fold
    return {**entry, "subject": item.case.subject} if item.case.subject else entry


def _number_ignored(manifest: Manifest, names: dict[int, str]) -> int | None:
    """Return the value of ignored voxels: that of the dataset, unless it is negative or the id of a label."""
    ignored = manifest.ignore_index
    # PNG has no negative values.
    return ignored if ignored is None or (ignored > 0 and ignored not in names) else max(names) + 1


def _describe(conversion: Conversion, names: dict[int, str], ignored: int | None) -> dict[str, Any]:
    manifest, items = conversion.manifest, conversion.items
    trained = sum(item.part == "train" and item.case.label is not None for item in items)
    validated = sum(item.part == "val" and item.case.label is not None for item in items)
    channels = manifest.channels or ("image",)
    has_volumes = any(is_volume(manifest, item.case) for item in items)
    size = "2D" if not has_volumes else "3D" if len(channels) == 1 else "4D"
    head: dict[str, Any] = {
        "name": manifest.name,
        "description": manifest.task,
        "reference": "; ".join([manifest.source, *manifest.citations]),
        "licence": manifest.licence,
        "release": "",
        "tensorImageSize": size,
        "modality": {str(number): channel for number, channel in enumerate(channels)},
        "labels": {str(label): name for label, name in names.items()},
        "numTraining": trained,
        **({"numValidation": validated} if validated else {}),
        "numTest": len(items) - trained - validated,
    }
    return head if ignored is None else {**head, "ignore_index": ignored}
