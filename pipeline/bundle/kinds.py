"""The kinds of data that bundles, templates and manifests are for."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.bundle.config_files import TRAIN, find_bundles, read_config
from pipeline.bundle.configs import Config, find_blocks
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.probes import VOLUMES, expected_format
from pipeline.issues import InputError

Shape = Literal["pictures", "stacks", "volumes", "series", "channels", "other"]
NAMES: dict[Shape, str] = {
    "pictures": "single pictures",
    "stacks": "stacks of slices",
    "volumes": "volumes (NIfTI, MetaImage, NRRD)",
    "series": "DICOM series, which have no masks",
    "channels": "images with one file per channel; merge the files, or name one channel",
    "other": "files that no bundle reads",
}
# A network that learns borders between touching objects, or a score that counts objects, needs masks that number them.
_OBJECTS = ("BorderWeightMapd", "SeparateInstancesd", "LabelInstancesd", "SegMeasure")


@dataclass(frozen=True)
class Kind:
    """The kind of data that a bundle is for, or that a dataset holds."""

    shape: Shape  #: the shape of a case
    objects: bool = False  #: masks number objects instead of naming classes

    def describe(self) -> str:
        """Return the kind in words."""
        return NAMES[self.shape] + (" with numbered objects (instances)" if self.objects else "")


#: The data that each template is for
TEMPLATES: dict[str, Kind] = {
    "pictures": Kind("pictures"),
    "stacks": Kind("stacks"),
    "volumes": Kind("volumes"),
    "objects": Kind("pictures", objects=True),
}


def find_kind(train: Config) -> Kind:
    """Return the data that a bundle is for, as its training config loads them.

    Args:
        train: content of ``train.json``.

    Raises:
        InputError: none of its transforms is a loader that is known.
    """
    objects = any(find_blocks(train, *_OBJECTS))
    if any(find_blocks(train, "LoadImageStackd")):
        return Kind("stacks", objects)
    if any(find_blocks(train, "LoadImaged")):
        return Kind("volumes" if train.get("network_def", {}).get("spatial_dims") == 3 else "pictures", objects)
    raise InputError(f"{TRAIN} loads images with neither LoadImaged nor LoadImageStackd, so its data are unknown")


def find_kind_of_data(manifest: Manifest) -> Kind:
    """Return the kind of a manifest's cases."""
    objects = manifest.mask_type == "instance"
    formats = {expected_format(file) for case in manifest.cases for file in case.image}
    if manifest.stacking == "series" or "DICOM" in formats:
        return Kind("series", objects)
    several = any(len(case.image) > 1 for case in manifest.cases)
    if several and manifest.stacking == "channels":
        return Kind("channels", objects)
    if formats and formats <= set(VOLUMES):
        flat = several or any(len(case.facts.get("shape") or (1, 1, 1)) != 3 for case in manifest.cases)
        return Kind("other" if flat else "volumes", objects)
    if not formats or formats & {*VOLUMES, ""}:
        return Kind("other", objects)
    return Kind("stacks" if several else "pictures", objects)


def is_fit(source: Kind, data: Kind, *, drawn: bool = False) -> bool:
    """Return whether a bundle of one kind fits data of another; a picture is a stack of one slice.

    Args:
        source: the kind of the bundle.
        data: the kind of the dataset.
        drawn: masks are drawn from COCO annotations, or several files united, which the loader of stacks does not read.
    """
    if source.objects != data.objects:
        return False
    if source.shape == "stacks":
        return data.shape in ("stacks", "pictures") and not drawn
    return source.shape == data.shape


def require_fit(name: str, source: Kind, manifest: Manifest, path: Path, folders: Iterable[Path]) -> None:
    """Refuse data that a bundle does not fit, and name the bundles and templates that do.

    Args:
        name: of the bundle.
        source: its kind.
        manifest: of the data.
        path: of the manifest, for the message.
        folders: searched for other bundles.

    Raises:
        InputError: the kinds differ.
    """
    united = any(case.has_several_masks() for case in manifest.cases)
    data, drawn = find_kind_of_data(manifest), united or manifest.coco is not None
    if is_fit(source, data, drawn=drawn):
        return
    masks = ", with several masks for one picture" if united else ", with masks drawn from COCO annotations"
    found = f"{path} lists {data.describe()}" + (masks if drawn else "")
    also = " or single pictures" if source.shape == "stacks" else ""
    raise InputError(f"{name} is for {source.describe()}{also}, but {found}; {_name_fitting(data, drawn, folders)}")


def _name_fitting(data: Kind, drawn: bool, folders: Iterable[Path]) -> str:
    fitting = set()
    for bundle in (bundle for folder in folders if folder.is_dir() for bundle in find_bundles(folder)):
        try:
            kind = find_kind(read_config(bundle, TRAIN))
        except InputError:
            continue
        if is_fit(kind, data, drawn=drawn):
            fitting.add(bundle.name)
    templates = [name for name, kind in TEMPLATES.items() if is_fit(kind, data, drawn=drawn)]
    if not templates:
        return "no bundle fits"
    bundles = f"bundles that fit: {', '.join(sorted(fitting))}; " if fitting else ""
    return f"{bundles}templates that fit: {', '.join(templates)}"
