"""Find the cases to predict, with the bundle's own search."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.bundle.config_files import INFERENCE
from pipeline.issues import InputError
from pipeline.prediction.inference_config import CASES
from pipeline.prediction.prediction_options import PredictionOptions
from pipeline.transforms.io.dicom_segmentation import require_highdicom
from pipeline.transforms.io.mask_formats import require_format

Item = dict[str, Any]
Refuse = Callable[[str, str], None]


def find_cases(parser: Any, options: PredictionOptions, refused: Refuse | None) -> list[Item]:
    """Return the cases, each ``{"case_id", "image"}``.

    Args:
        parser: of the bundle's inference.
        options: with the inputs.
        refused: gets the path of each input that is left out, and why; None ends the search.

    Raises:
        InputError: there is nothing to predict, an input cannot be used, or the bundle finds its cases in a way that
            this command does not know.
    """
    if options.format == "seg":
        require_highdicom()
    part = parser.get_parsed_content(CASES, instantiate=False)
    target = part.resolve_module_name() if hasattr(part, "resolve_module_name") else None
    if target is None or "refused" not in inspect.signature(_load(target)).parameters:
        place = options.bundle / "configs" / INFERENCE
        hint = "expected pipeline.datasets.find_images, find_inputs or find_volumes"
        raise InputError(f"{place}: {CASES} finds its cases in a way that predict does not know; {hint}")
    items = part.instantiate(input=list(options.inputs), refused=refused)
    if options.format is None:
        return list(items)
    return [item for item in items if _has_format(item, options.format, refused)]


def _load(target: Any) -> Any:
    from monai.utils import optional_import

    if not isinstance(target, str):
        return target
    module, _, name = target.rpartition(".")
    found, _ = optional_import(module, name=name)
    return found


def _has_format(item: Item, format: str, refused: Refuse | None) -> bool:
    path = name_path(item)
    try:
        require_format(path, format)
    except InputError as error:
        if refused is None:
            raise
        refused(path, str(error))
        return False
    return True


def name_path(item: Item) -> str:
    """Return the path of a case's image, of a stack that of its first slice."""
    image: str | Sequence[str] = item["image"]
    return image if isinstance(image, str) else image[0]
