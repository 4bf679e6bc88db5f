"""Transforms of binary masks applied to every label of an index map."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from monai.transforms import Transform
from monai.utils.type_conversion import convert_to_dst_type

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import name_item

Change = Callable[[torch.Tensor], torch.Tensor]


class EachLabel(Transform):
    """Apply an array transform of binary masks to every label of an index map separately.

    MONAI's ``FillHoles`` (1.6.1) overwrites a label inside another one. Here the transform gets each label as a mask of
    0 and 1. Removed voxels become background; voxels are added only if they were background and no other label adds
    them.

    Args:
        transform: array transform (``FillHoles``, not ``FillHolesd``) of a mask ``(1, *spatial)`` of 0 and 1.
        applied_labels: labels to transform, by default all labels of the map; 0 is background.

    Raises:
        ValueError: a label is not a whole number from 1.

    Example:
        >>> from monai.transforms import FillHoles
        >>> labels = torch.tensor([[[1, 1, 1, 0], [1, 2, 1, 0], [1, 0, 1, 0], [1, 1, 1, 2]]])
        >>> FillHoles()(labels.clone())[0, 1:3, 1].tolist(), EachLabel(FillHoles())(labels)[0, 1:3, 1].tolist()
        ([1, 1], [2, 1])
    """

    def __init__(self, transform: Callable[[Any], Any], applied_labels: Iterable[int] | int | None = None) -> None:
        self.transform = transform
        self.applied_labels = check_applied_labels(applied_labels)

    def __call__(self, labels: torch.Tensor) -> torch.Tensor:
        """Transform the labels of an index map ``(1, *spatial)``.

        Returns:
            A new index map with the dtype and meta data of the old one.

        Raises:
            ValueError: the map has several channels.
        """

        def change(mask: torch.Tensor) -> torch.Tensor:
            changed = self.transform(convert_to_dst_type(mask[None], dst=labels, dtype=labels.dtype)[0])
            return torch.as_tensor(changed).as_subclass(torch.Tensor)[0] > 0

        return change_labels(labels, self.applied_labels, change)


def change_labels(labels: torch.Tensor, applied: tuple[int, ...] | None, change: Change) -> torch.Tensor:
    """Change each label of an index map separately.

    Args:
        labels: index map ``(1, *spatial)``.
        applied: labels to change, None for all labels of the map.
        change: takes and returns a bool mask ``spatial``.

    Returns:
        A new index map like ``labels``. A label gains only voxels that were background and that no other label gains.

    Raises:
        ValueError: the map has several channels.
    """
    if labels.ndim < 2 or labels.shape[0] != 1:
        raise ValueError(
            f"{name_item(labels)}: expected an index map (1, *spatial), got shape {tuple(labels.shape)};"
            " discretise it first (AsDiscreted)"
        )
    plain = labels.as_subclass(torch.Tensor).detach()[0]
    present = [int(label) for label in torch.unique(plain).tolist() if label > 0]
    result, claims = plain.clone(), torch.zeros_like(plain, dtype=torch.uint8)
    gains = []
    for label in present if applied is None else [label for label in applied if label in present]:
        before = plain == label
        after = change(before).to(before.device)
        result[before & ~after] = 0
        gains.append((label, after & (plain == 0)))
        claims += gains[-1][1]
    for label, gained in gains:
        result[gained & (claims == 1)] = label
    return convert_to_dst_type(result[None], dst=labels, dtype=labels.dtype)[0]


def check_applied_labels(applied_labels: Iterable[int] | int | None) -> tuple[int, ...] | None:
    """Return labels as a tuple without repetition; None means all.

    Raises:
        ValueError: a label is not a whole number from 1.

    Example:
        >>> check_applied_labels(1), check_applied_labels([2, 1, 2]), check_applied_labels(None)
        ((1,), (2, 1), None)
    """
    if applied_labels is None:
        return None
    found = (applied_labels,) if isinstance(applied_labels, int) else tuple(applied_labels)
    if not all(isinstance(label, int) and label >= 1 for label in found):
        raise ValueError(f"applied_labels must be whole numbers from 1, got {list(found)}; 0 is background")
    return tuple(dict.fromkeys(found))


class EachLabeld(DictTransform, array=EachLabel):
    """Dictionary version of :class:`EachLabel`, with the same further arguments.

    Args:
        keys: items that hold index maps ``(1, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """
