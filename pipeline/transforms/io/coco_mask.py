"""Masks drawn from COCO annotations while the data are loaded, so that no mask files are needed."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import ImageMetaKey

from pipeline.datasets.coco import rasterise, read_annotations, read_policy
from pipeline.datasets.manifests.manifest import split_fragment
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.datasets.probes.orientation import turn_to_stored
from pipeline.flags import read_flag
from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.io.mask_files import LoadMasks

_WHITE = 255


class LoadCocoMask(Transform):
    """Draw the mask of an image from its annotations.

    The manifest says which category gets which label and how annotations marked ``iscrowd`` are treated, so training,
    checks and the manifest's voxel counts agree. Where a photograph has an EXIF orientation and its outlines were drawn
    as viewers show it, the mask is turned to the stored pixels, which MONAI reads.

    Clients that bring their own data, such as MONAI Label, have masks instead of annotations: a picture of label ids,
    or of 0 and 255, is loaded as it is, and needs no manifest.

    Args:
        manifest: manifest file written by ``dataset build coco``. If there is none, only masks can be loaded.
        instances: number the objects 1, 2, ... in the order of the file instead of drawing their labels.
        reverse_indexing: give the mask as (W, H), as MONAI's ``PILReader`` does by default with PNG, JPEG and BMP
            images; False gives (H, W). Use the setting of the image's reader.
        dtype: dtype of the mask.

    Raises:
        InputError: the manifest cannot be read, or does not say how annotations become masks.
    """

    def __init__(
        self,
        manifest: str | os.PathLike[str],
        instances: bool | str = False,
        reverse_indexing: bool | str = True,
        dtype: Any = torch.float32,
    ) -> None:
        self.manifest = manifest
        self.instances = read_flag(instances, "instances")
        self.reverse_indexing = read_flag(reverse_indexing, "reverse_indexing")
        self.dtype = dtype
        self._known = os.path.exists(manifest)
        if self._known:
            self._read_manifest()

    def _read_manifest(self) -> None:
        data = read_manifest(self.manifest)
        self.categories, self.crowd = read_policy(data)
        self.turns = {label: data.find_turn(label) for case in data.cases for label in case.label or ()}
        self._known = True

    def __call__(self, path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> MetaTensor:
        """Draw one mask, or load it.

        Args:
            path: ``<annotation file>.json#<image id>`` or a mask's file, alone or as a list of one.

        Returns:
            Mask ``(1, W, H)``, or ``(1, H, W)`` without ``reverse_indexing``, on the grid of the image.

        Raises:
            InputError: the annotations or the manifest cannot be read.
            OSError: the mask's file cannot be read.
            ValueError: the path is not of this form, the file does not list the image, or one of its annotations
                cannot be drawn.
        """
        paths = [path] if isinstance(path, str | os.PathLike) else list(path)
        file, image_id = split_fragment(os.fspath(paths[0])) if len(paths) == 1 else ("", "")
        if file and not image_id and not file.lower().endswith(".json"):
            return self._load_mask(file)
        if not image_id:
            raise ValueError(f"expected one path like annotations.json#<image id>, got {paths}")
        if not self._known:
            self._read_manifest()
        mask = rasterise(read_annotations(file), image_id, self.categories, self.crowd, self.instances)
        mask = turn_to_stored(mask, self._find_turn(os.fspath(paths[0])))
        mask = mask.T if self.reverse_indexing else mask
        # int32 first: torch has no arithmetic for uint16.
        pixels = torch.as_tensor(np.ascontiguousarray(mask[None], dtype=np.int32)).to(self.dtype)
        meta = {ImageMetaKey.FILENAME_OR_OBJ: os.fspath(paths[0]), ImageMetaKey.SPATIAL_SHAPE: np.array(mask.shape)}
        return MetaTensor(pixels, affine=torch.eye(4, dtype=torch.float64), meta=meta)

    def _load_mask(self, file: str) -> MetaTensor:
        mask = LoadMasks(self.reverse_indexing, self.dtype)(file)
        whole = bool(((mask == 0) | (mask == _WHITE)).all())
        return MetaTensor(mask // _WHITE if whole else mask, meta=mask.meta)

    def _find_turn(self, path: str) -> int:
        """Return the turn of the manifest's label that a path ends with, the longest if there are several."""
        parts = path.replace(os.sep, "/").split("/")
        ends = ("/".join(parts[index:]) for index in range(len(parts)))
        return next((self.turns[end] for end in ends if end in self.turns), 1)


class LoadCocoMaskd(DictTransform, array=LoadCocoMask):
    """Dictionary version of :class:`LoadCocoMask`, with the same further arguments.

    Args:
        keys: items that hold paths with image ids.
        allow_missing_keys: skip keys that a case does not have.
    """
