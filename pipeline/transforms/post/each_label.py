"""Transforms of binary masks done on every label of an index map."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils.type_conversion import convert_to_dst_type

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.items import name_item

__all__ = ["EachLabel", "EachLabeld", "change_labels", "read_labels"]

Change = Callable[[torch.Tensor], torch.Tensor]


class EachLabel(Transform):
    """Do an array transform of binary masks on every label of an index map, each on its own.

    MONAI's ``FillHoles`` (1.6.1) overwrites a label that another one surrounds. Here each label is a mask of 0 and 1
    for the transform; what it takes away becomes background, what it adds is taken only where there was background and
    no other label claims it.

    Args:
        transform: takes and returns a mask ``(1, *spatial)`` of 0 and 1.
        applied_labels: labels that are transformed, by default all that the map holds; 0 is background.

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
        self.applied_labels = read_labels(applied_labels)

    def __call__(self, labels: torch.Tensor) -> torch.Tensor:
        """Transform the labels of an index map ``(1, *spatial)``.

        Returns:
            A new index map with the dtype and meta data of the old one.

        Raises:
            ValueError: the map has several channels.
        """

        def change(mask: torch.Tensor) -> torch.Tensor:
            changed = self.transform(convert_to_dst_type(mask[None], dst=labels, dtype=labels.dtype)[0])
            return (changed.as_tensor() if isinstance(changed, MetaTensor) else torch.as_tensor(changed))[0] > 0

        return change_labels(labels, self.applied_labels, change)


def change_labels(labels: torch.Tensor, applied: tuple[int, ...] | None, change: Change) -> torch.Tensor:
    """Change each label of an index map by itself.

    Args:
        labels: index map ``(1, *spatial)``.
        applied: labels that are changed, None for all that there are.
        change: takes and returns a bool mask ``spatial``.

    Returns:
        A new index map like ``labels``. Voxels that a label gains are background before, and claimed by it alone.

    Raises:
        ValueError: the map has several channels.
    """
    if labels.ndim < 2 or labels.shape[0] != 1:
        raise ValueError(
            f"{name_item(labels)}: expected an index map (1, *spatial), got shape {tuple(labels.shape)};"
            " discretise it first (AsDiscreted)"
        )
    plain = (labels.as_tensor() if isinstance(labels, MetaTensor) else labels).detach()[0]
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


def read_labels(applied_labels: Iterable[int] | int | None) -> tuple[int, ...] | None:
    """Return labels as a tuple, each once; None means all.

    Raises:
        ValueError: a label is not a whole number from 1.

    Example:
        >>> read_labels(1), read_labels([2, 1, 2]), read_labels(None)
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
