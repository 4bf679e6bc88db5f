"""Checks of the maps of class ids that metrics get, and their voxel sizes."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.utils import ImageMetaKey

from pipeline.issues import InputError

_SHOWN = 6  # values of a wrong map in a message
#: Formats that always contain the voxel size in mm
_VOLUMES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".dcm")
_NEXT = {
    "pred": "put AsDiscreted before the metric (argmax without to_onehot for several classes)",
    "label": "put EncodeMaskd into the preprocessing",
}


def read_label_maps(
    y_pred: torch.Tensor, y: torch.Tensor | None, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Check a prediction and its truth; MONAI's metrics return 0.0 for masks of {0, 255} and for probabilities.

    Args:
        y_pred: (B, 1, *spatial) class ids.
        y: as ``y_pred``.
        num_classes: ids go from 0 to ``num_classes - 1``.

    Returns:
        Both as plain tensors, on the device of the prediction.

    Raises:
        InputError: the truth is missing, the shapes differ, there are several channels, or a value is not a class id.

    Example:
        >>> truth = torch.tensor([[[[0, 255]]]])
        >>> read_label_maps(truth, truth, num_classes=2)
        Traceback (most recent call last):
        ...
        pipeline.issues.InputError: pred has the values 0, 255, expected class ids from 0 to 1: put AsDiscreted ...
    """
    if y is None:
        raise InputError("a metric got no label; its output_transform must give pred and label")
    for name, item in (("pred", y_pred), ("label", y)):
        if item.ndim < 3 or item.shape[1] != 1:
            raise InputError(
                f"{_name(name, item)} has the shape {tuple(item.shape[1:])}, expected one channel of class ids "
                f"(1, *spatial): {_NEXT[name]}"
            )
    if y_pred.shape != y.shape:
        raise InputError(
            f"pred has the shape {tuple(y_pred.shape[1:])}, {_name('label', y)} {tuple(y.shape[1:])}: "
            "put Invertd before the metric, so that the prediction is on the image's own grid"
        )
    for name, item in (("pred", y_pred), ("label", y)):
        check_class_ids(item, name, num_classes)
    return to_plain(y_pred), to_plain(y).to(y_pred.device)


def check_class_ids(item: torch.Tensor, name: str, num_classes: int) -> None:
    """Reject any value that is not a class id.

    Args:
        item: any shape.
        name: ``"pred"`` or ``"label"``, for the message.
        num_classes: ids go from 0 to ``num_classes - 1``.

    Raises:
        InputError: lists the values found.
    """
    plain = to_plain(item)
    if plain.dtype == torch.bool or plain.numel() == 0:
        return
    low, high = plain.aminmax()  # NaN if a value is NaN
    whole = not plain.is_floating_point() or bool((plain == plain.floor()).all())
    if not (whole and low >= 0 and high < num_classes):
        raise InputError(
            f"{_name(name, item)} has the values {_show_values(plain)}, "
            f"expected class ids from 0 to {num_classes - 1}: {_NEXT.get(name, 'check its file')}"
        )


def find_spacing(label: torch.Tensor, index: int = 0) -> tuple[float, ...] | None:
    """Return the voxel size of a label.

    Pictures have no voxel size, and their readers set it to 1. So a size of 1 along every axis counts only if the label
    comes from a volume format such as NIfTI.

    Args:
        label: (B, 1, *spatial).
        index: position in the batch.

    Returns:
        mm along each axis; None if unknown.

    Example:
        >>> label = MetaTensor(torch.zeros(1, 1, 4, 4), affine=torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0])))
        >>> find_spacing(label), find_spacing(torch.zeros(1, 1, 4, 4))
        ((0.5, 2.0), None)
    """
    if not isinstance(label, MetaTensor):
        return None
    affine = label.affine if label.affine.ndim == 2 else label.affine[index]
    sizes = affine_to_spacing(affine, r=label.ndim - 2, suppress_zeros=False).tolist()
    spacing = tuple(float(f"{size:.6g}") for size in sizes)  # affines are stored in single precision
    if not all(math.isfinite(size) and size > 0 for size in spacing):
        return None
    if all(size == 1 for size in spacing) and not _find_path(label).lower().endswith(_VOLUMES):
        return None
    return spacing


def to_plain(item: torch.Tensor) -> torch.Tensor:
    """Return the tensor without meta data, which every operation would copy."""
    return item.as_subclass(torch.Tensor)


def check_classes(labels: int | Sequence[int], num_classes: int | None) -> tuple[tuple[int, ...], int]:
    """Check the classes that a metric scores.

    Args:
        labels: class ids.
        num_classes: with background; None for the highest label plus one.

    Returns:
        The labels and the number of classes.

    Raises:
        ValueError: there is no label, a repeated one, the background, or one that is not below ``num_classes``.

    Example:
        >>> check_classes([1, 2], None), check_classes(1, 3)
        (((1, 2), 3), ((1,), 3))
    """
    named = (labels,) if isinstance(labels, int) else tuple(labels)
    if not named or len(set(named)) != len(named) or any(not isinstance(label, int) or label < 1 for label in named):
        raise ValueError(f"labels must be different class ids from 1 up (0 is the background), got {labels}")
    count = max(named) + 1 if num_classes is None else num_classes
    if max(named) >= count:
        raise ValueError(f"labels has class {max(named)}, but num_classes is {count}, so ids end at {count - 1}")
    return named, count


def _name(name: str, item: torch.Tensor) -> str:
    path = _find_path(item) if name == "label" else ""
    return f"{name} {path}" if path else name


def _find_path(item: torch.Tensor) -> str:
    path: Any = item.meta.get(ImageMetaKey.FILENAME_OR_OBJ, "") if isinstance(item, MetaTensor) else ""
    return str(path[0] if isinstance(path, list | tuple) and path else path or "")  # a batch has a list of paths


def _show_values(plain: torch.Tensor) -> str:
    values = torch.unique(plain.detach().float().cpu())
    known = values[~values.isnan()].tolist()
    shown = [f"{value:g}" for value in known]
    if len(known) > _SHOWN:
        shown[_SHOWN - 1 :] = ["...", f"{known[-1]:g} ({len(known)} different)"]
    return ", ".join([*shown, *(["nan"] if len(known) < len(values) else [])])
