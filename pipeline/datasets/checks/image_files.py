"""Checks of picture files: colour model, transparency, EXIF orientation, none of which MONAI's reader checks."""

from collections.abc import Iterator

from pipeline.datasets.checks.case_view import CaseView
from pipeline.datasets.probes import Probe
from pipeline.issues import Issue

# Pillow's modes that are arrays of intensities; others need a conversion that only the user can choose.
IMAGE_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
MASK_MODES = IMAGE_MODES | {"P"}
# EXIF orientations with a turn by 90 degrees, which exchanges rows and columns.
_QUARTER_TURNS = (5, 6, 7, 8)


def check_image_mode(view: CaseView) -> Iterator[Issue]:
    """Yield ``image-mode`` for pictures whose mode is not an array of intensities or labels."""
    for pairs, modes, wanted in (
        (view.images(), IMAGE_MODES, "grey or RGB"),
        (view.masks(), MASK_MODES, "8-bit grey"),
    ):
        for path, probe in pairs:
            mode = probe.header.get("mode")
            if mode is not None and mode not in modes:
                message = f"the pixels are stored as {mode}, expected {wanted}"
                yield view.error("image-mode", path, message, f"convert the file to {wanted}")


def check_alpha(view: CaseView) -> Iterator[Issue]:
    """Yield ``alpha-varies`` for decoded files with an alpha channel that is not opaque."""
    for path, probe in view.probes.items():
        if probe.header.get("alpha") == "varies":
            hint = "flatten the file, or name the alpha channel in the manifest's channels"
            if path not in view.case.image or probe.channels != len(view.manifest.channels):
                yield view.error("alpha-varies", path, "the alpha channel is not opaque everywhere", hint)


def check_orientation(view: CaseView) -> Iterator[Issue]:
    """Yield ``exif-orientation`` for images that viewers turn but MONAI does not; an error if the mask was turned.

    The mask of such an image has the stored grid only if it has the same orientation tag or, after a turn by 90 degrees
    of an image that is not square, the stored size. Pillow applies the tag of TIFF files itself.
    """
    for image_path, image in view.images():
        tag = image.header.get("exif_orientation", 1)
        if tag == 1:
            continue
        masks = dict(zip(view.case.image, view.case.label or (), strict=False))
        mask = view.probes.get(masks.get(image_path, ""))
        message = f"EXIF orientation {tag}: viewers turn the image, "
        if image.format == "TIFF":
            yield view.warning("exif-orientation", image_path, message + "Pillow too, other readers of TIFF may not")
        elif mask is None or _has_stored_grid(image, mask):
            yield view.warning("exif-orientation", image_path, message + "MONAI reads it as stored")
        else:
            hint = "turn the pixels and remove the tag (exiftran -ai), or give the mask the same orientation"
            yield view.error(
                "exif-orientation", image_path, message + "MONAI does not, and its mask lacks the tag", hint
            )


def _has_stored_grid(image: Probe, mask: Probe) -> bool:
    tag = image.header.get("exif_orientation", 1)
    if mask.format == "COCO" or mask.header.get("exif_orientation", 1) == tag:
        return True
    return tag in _QUARTER_TURNS and image.shape == mask.shape != mask.shape[::-1]
