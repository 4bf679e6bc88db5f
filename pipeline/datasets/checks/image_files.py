"""Checks of picture files: colour model, transparency, EXIF orientation, none of which MONAI's reader checks."""

from collections.abc import Iterator

from pipeline.datasets.checks.case_view import CaseView
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.probes import Probe
from pipeline.datasets.probes.orientation import QUARTER_TURNS
from pipeline.issues import Issue

# Pillow's modes that are arrays of intensities; others need a conversion that only the user can choose.
IMAGE_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I", "F", "I;16", "I;16B", "I;16L", "I;16N"})
MASK_MODES = IMAGE_MODES | {"P"}

INVERTED_HINT = "look at it, and save it as PNG with 0 as black (in ImageJ: Image > Lookup Tables > Grays)"


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


def check_garbled(view: CaseView) -> Iterator[Issue]:
    """Yield ``garbled-tiff`` for TIFF files that Pillow reads wrongly; see `pipeline.datasets.probes.raster`."""
    for path, probe in view.probes.items():
        if probe.header.get("garbled"):
            message = "an uncompressed grey TIFF with an EXIF orientation by 90 degrees, which Pillow and MONAI garble"
            yield view.error("garbled-tiff", path, message, "turn the pixels and remove the tag, or save it as PNG")


def check_inversion(view: CaseView) -> Iterator[Issue]:
    """Yield ``inverted-grey`` for TIFF files whose grey scale counts from white, where programs read other values.

    Pillow turns the values of pictures of 1 and 8 bits as the tag says, and leaves others as they are stored. Programs
    that write masks (ImageJ) and that read them disagree on which of two values is the background.
    """
    masks = {path for path, _ in view.masks()}
    for path, probe in view.probes.items():
        is_tiff = probe.format == "TIFF" and probe.header.get("inverted")
        if is_tiff and (path in masks or probe.header["mode"] not in ("1", "L")):
            message = "the grey scale of this TIFF is inverted (WhiteIsZero), which not all programs apply"
            yield view.error("inverted-grey", path, message, INVERTED_HINT)


def check_orientation(view: CaseView) -> Iterator[Issue]:
    """Yield ``exif-orientation`` for images that viewers turn but MONAI does not; an error if the mask was turned.

    The mask of such an image has the stored grid only if it has the same orientation tag or, after a turn by 90 degrees
    of an image that is not square, the stored size. Pillow applies the tag of TIFF files itself. The manifest says
    whether outlines of COCO annotations were drawn on the stored pixels.
    """
    for image_path, image in view.images():
        masks = {path: view.probes[path] for own, path in view.pairs() if own == image_path and path in view.probes}
        turned = [path for path, mask in masks.items() if not _has_stored_grid(view.manifest, path, image, mask)]
        tag = image.header.get("exif_orientation", 1)
        message = f"EXIF orientation {tag}: viewers turn the image, "
        if turned and masks[turned[0]].format == "COCO":
            message += "MONAI does not, and the manifest does not say on which pixels the outlines were drawn"
            hint = "build it with --orientation displayed if as viewers show the image, --orientation stored if not"
            yield view.error("exif-orientation", image_path, message, hint)
        elif turned and tag != 1:
            hint = "turn the pixels and remove the tag (exiftran -ai), or give the mask the same orientation"
            yield view.error(
                "exif-orientation", image_path, message + "MONAI does not, and its mask lacks the tag", hint
            )
        elif turned:
            found = masks[turned[0]].header.get("exif_orientation", 1)
            message = f"EXIF orientation {found}: viewers turn the mask, MONAI does not, and its image lacks the tag"
            hint = "turn its pixels and remove the tag (exiftran -ai), or only remove the tag if image and mask agree"
            yield view.error("exif-orientation", turned[0], message, hint)
        elif tag != 1 and image.format == "TIFF":
            yield view.warning("exif-orientation", image_path, message + "Pillow too, other readers of TIFF may not")
        elif tag != 1 and not any(view.manifest.find_turn(path) == tag for path in masks):
            yield view.warning("exif-orientation", image_path, message + "MONAI reads it as stored")


def _has_stored_grid(manifest: Manifest, path: str, image: Probe, mask: Probe) -> bool:
    tag, other = _unapplied_tag(image), manifest.find_turn(path) if mask.format == "COCO" else _unapplied_tag(mask)
    if tag == other or (mask.format == "COCO" and (manifest.coco or {}).get("orientation") == "stored"):
        return True
    return bool({tag, other} & {*QUARTER_TURNS}) and image.shape == mask.shape != mask.shape[::-1]


def _unapplied_tag(probe: Probe) -> int:
    return 1 if probe.format == "TIFF" else int(probe.header.get("exif_orientation", 1))
