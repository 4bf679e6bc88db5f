"""Maps of a prediction written on the grid of the image: the probability of each label, and doubt."""

import os
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import MetaTensor
from monai.transforms import Transform
from monai.utils import MetaKeys
from numpy.typing import NDArray

from pipeline.flags import read_flag
from pipeline.issues import InputError
from pipeline.pictures.image_file import write_picture
from pipeline.transforms.dictionary import SaverDictTransform
from pipeline.transforms.io.save_mask import check_name
from pipeline.transforms.io.slice_stack import SLICE_PATHS
from pipeline.transforms.io.source_files import SourceFile, open_source, require_place
from pipeline.transforms.items import find_file
from pipeline.transforms.post.doubt import measure_doubt

_CASE = "case_id"


class SaveImageMaps(Transform):
    """Write maps of numbers from 0 to 1, in 32 bits, beside the masks of `SaveImageMask` or `SaveImageStack`.

    ``<name>_probability.*`` is the probability of the foreground, ``<name>_probability_<label>.*`` that of each label
    where there are several; ``<name>_doubt.*`` is the entropy of the probabilities, see `measure_doubt`. Pictures and
    slices have TIFF files, a volume has the format of its mask.

    Args:
        output_dir: folder of the results.
        names: name of each label, for the files' names.
        probabilities: write the probabilities.
        doubt: write the doubt.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (6, 4)).save(folder / "a.jpg")
        >>> image = MetaTensor(torch.full((1, 4, 6), 0.5), meta={"filename_or_obj": str(folder / "a.jpg")})
        >>> [path.name for path in SaveImageMaps(folder / "out", doubt=True)(image)]
        ['a_probability.tif', 'a_doubt.tif']
        >>> np.asarray(Image.open(folder / "out/a_doubt.tif")).max().item()
        1.0
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        names: Mapping[int | str, str] | None = None,
        probabilities: bool | str = True,
        doubt: bool | str = False,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.names = {int(label): str(name) for label, name in (names or {}).items()}
        self.probabilities = read_flag(probabilities, "probabilities")
        self.doubt = read_flag(doubt, "doubt")

    def __call__(self, pred: MetaTensor, case_id: str | None = None) -> list[Path]:
        """Write the maps of a case.

        Args:
            pred: probabilities ``(L, *spatial)``, with the meta data of the loaded image. Of several channels that
                exclude each other, the first is background.
            case_id: see `SaveImageMask`.

        Returns:
            The files written.

        Raises:
            ValueError: the prediction does not name its image, or is not on the image's grid.
            InputError: a file cannot be written.
        """
        write = self._write_stack if SLICE_PATHS in pred.meta else self._write
        try:
            return list(write(pred, case_id))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(
                f"cannot write the maps of {find_file(pred)} to {self.output_dir}: {reason}; "
                "free some space or choose another folder with --output_dir"
            ) from None

    def _list_maps(self, pred: MetaTensor) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the name and the values ``(*spatial)`` of each map."""
        channels = np.asarray(pred.detach().cpu().float())
        if self.probabilities and len(channels) == 1:
            yield "probability", channels[0]
        elif self.probabilities:
            for label in range(1, len(channels)):
                name = self.names.get(label, str(label)).replace("/", "_").replace(" ", "_")
                yield f"probability_{name}", channels[label]
        if self.doubt:
            yield "doubt", np.asarray(measure_doubt(pred).cpu())[0]

    def _write(self, pred: MetaTensor, case_id: str | None) -> Iterator[Path]:
        source = open_source(find_file(pred), pred.meta)
        _require_grid(pred, source)
        start = check_name(case_id or source.stem)
        suffix = source.suffix if source.affine is not None else ".tif"
        for name, values in self._list_maps(pred):
            target = self.output_dir / f"{start}_{name}{suffix}"
            source.write(values, target)
            yield target

    def _write_stack(self, pred: MetaTensor, case_id: str | None) -> Iterator[Path]:
        paths = [Path(line) for line in str(pred.meta[SLICE_PATHS]).split("\n")]
        for name, values in self._list_maps(pred):
            if values.shape[-1] != len(paths):
                raise ValueError(f"{paths[0]}: expected a map of {len(paths)} slices, got {values.shape}")
            for index, path in enumerate(paths):
                target = self.output_dir / path.parent.name / f"{path.stem}_{name}.tif"
                write_picture(np.ascontiguousarray(values[..., index]), target, "TIFF")
                yield target


def _require_grid(pred: MetaTensor, source: SourceFile) -> None:
    if tuple(pred.shape[1:]) != source.grid:
        raise ValueError(
            f"{source.path}: expected a map on the image's grid {source.grid}, got {tuple(pred.shape[1:])};"
            " Invertd brings it back"
        )
    if source.affine is not None:
        affine = np.asarray(pred.meta.get(MetaKeys.ORIGINAL_AFFINE, source.affine))
        require_place(pred, affine, source.grid, f"{source.path}: the map")


class SaveImageMapsd(SaverDictTransform, array=SaveImageMaps):
    """Dictionary version of :class:`SaveImageMaps`, with the same further arguments.

    Args:
        keys: items that hold probabilities ``(L, *spatial)``.
        allow_missing_keys: skip keys that a case does not have.
    """

    def apply(self, data: dict[Hashable, Any], key: Hashable) -> None:
        """Write the maps, named after the case's ``case_id``; the data stay as they are."""
        self.transform(data[key], data.get(_CASE))
