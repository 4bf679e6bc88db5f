"""The image of a prediction, loaded again in the intensities and on the grid of its file."""

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import ImageMetaKey

from pipeline.transforms.dictionary import DictTransform
from pipeline.transforms.io.slice_stack import SLICE_PATHS
from pipeline.transforms.io.source_files import require_place

_AXES = 3


class LoadSource(Transform):
    """Load the image of a prediction again, with the intensities and on the grid of its file.

    A network gets a normalised and often resampled image; a dense CRF compares intensities in the units of the file,
    at full resolution. The prediction's meta data name the file.

    Args:
        loader: array transform that loads an image, such as ``LoadImage(ensure_channel_first=True)``. It gets the path,
            or the list of paths of a stack of slices (`LoadImageStack`). Use the arguments of the first loading.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from monai.transforms import LoadImage
        >>> path = Path(tempfile.mkdtemp()) / "a.png"
        >>> Image.fromarray(np.full((4, 6), 200, np.uint8)).save(path)
        >>> pred = MetaTensor(torch.zeros(1, 4, 6), meta={"filename_or_obj": str(path)})
        >>> LoadSource(LoadImage(reverse_indexing=False, ensure_channel_first=True))(pred).unique().tolist()
        [200.0]
    """

    def __init__(self, loader: Callable[[Any], torch.Tensor]) -> None:
        self.loader = loader

    def __call__(self, pred: torch.Tensor) -> torch.Tensor:
        """Load the image of a prediction.

        Args:
            pred: ``(L, *spatial)`` on the grid of the image's file, with the meta data of the loaded image.

        Returns:
            The image ``(C, *spatial)``.

        Raises:
            ValueError: the prediction does not name its file, the file is missing or cannot be read, or the prediction
                is not on its grid.
        """
        paths = _find_paths(pred)
        for path in paths:
            if not Path(path).exists():
                raise ValueError(
                    f"{path} is missing, but the CRF needs the original image; put it back, or leave out the CRF"
                )
        stack = isinstance(pred, MetaTensor) and SLICE_PATHS in pred.meta
        try:
            image = self.loader(paths if stack else paths[0])
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"{paths[0]} cannot be loaded again for the CRF: {reason}") from error
        _require_grid(pred, image, paths[0])
        return image


def _find_paths(pred: torch.Tensor) -> list[str]:
    meta: Mapping[Any, Any] = pred.meta if isinstance(pred, MetaTensor) else {}
    text = str(meta.get(SLICE_PATHS, "") or meta.get(ImageMetaKey.FILENAME_OR_OBJ, ""))
    if not text:
        raise ValueError(
            "the prediction does not name the file of its image: the image came from memory, or Invertd did not copy"
            " the image's meta data; load images from files, or leave out the CRF"
        )
    return text.split("\n") if SLICE_PATHS in meta else [text]


def _require_grid(pred: torch.Tensor, image: torch.Tensor, path: str) -> None:
    """Raise ValueError if prediction and image differ in shape, or volumes in position."""
    found, expected = tuple(pred.shape[1:]), tuple(image.shape[1:])
    if found != expected:
        hint = "use the loading arguments of the image" if found == expected[::-1] else "Invertd brings it back"
        raise ValueError(f"{path}: the prediction has the shape {found}, its image {expected}; {hint}")
    if len(expected) == _AXES and isinstance(image, MetaTensor):
        require_place(pred, np.asarray(image.affine.cpu()), expected, f"{path}: the prediction")


class LoadSourced(DictTransform, array=LoadSource):
    """Dictionary version of :class:`LoadSource`: the image of ``data[keys]`` is stored as ``data[name]``.

    Args:
        keys: the item that holds the prediction.
        name: the new item.
        loader: see :class:`LoadSource`.
        allow_missing_keys: do nothing if a case has no prediction.

    Raises:
        ValueError: there are several keys: a name holds one image.
    """

    def prepare(self, name: str) -> None:
        """Store the name of the new item."""
        if len(self.keys) != 1:
            raise ValueError(f"LoadSourced loads the image of one key, got {list(self.keys)}")
        self.name = name

    def apply(self, data: dict[Hashable, Any], key: Hashable) -> None:
        """Load the image of the prediction."""
        data[self.name] = self.transform(data[key])
