"""MONAI's ``Spacingd`` for cases that clients add items to."""

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Spacingd as MonaiSpacingd


class Spacingd(MonaiSpacingd):
    """Resample to voxel sizes as MONAI's ``Spacingd``, also where another item's name begins with the key.

    For a NIfTI file MONAI 1.6.1 copies the new meta data to every item whose key begins with ``image_``, and fails
    where that is not a dictionary (``'str' object has no attribute 'update'``). MONAI Label adds ``image_path``.

    Example:
        >>> import torch
        >>> from monai.data import MetaTensor
        >>> image = MetaTensor(torch.zeros(1, 4, 4, 4), meta={"filename_or_obj": "a.nii.gz"})
        >>> case = Spacingd("image", (2.0, 2.0, 2.0))({"image": image, "image_path": "a.nii.gz"})
        >>> tuple(case["image"].shape), case["image_path"]
        ((1, 2, 2, 2), 'a.nii.gz')
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Return the case with resampled items."""
        starts = tuple(f"{key}_" for key in self.keys)
        aside = {
            key: value
            for key, value in data.items()
            if str(key).startswith(starts) and key not in self.keys and not hasattr(value, "update")
        }
        rest = {key: value for key, value in data.items() if key not in aside}
        return {**super().__call__(rest, lazy), **aside}
