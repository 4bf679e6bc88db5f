"""The formats in which the mask of an image can be written."""

from pathlib import Path

from pipeline.issues import InputError

#: Ending of a mask by that of its picture. Masks of JPEG images are PNG, because JPEG changes values; so are those of
#: BMP images.
PICTURES = {".tif": ".tif", ".tiff": ".tiff", **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp"), ".png")}
#: Format that a mask can have instead of the one that fits its image, and the ending of its name
ENDINGS = {"nifti": ".nii.gz", "png": ".png", "tiff": ".tif", "seg": ".dcm"}


def list_formats(path: str | Path) -> tuple[str, ...]:
    """Return the formats in which the mask of an image can be written; the default one may be another.

    Args:
        path: a picture, the file of a volume, or the folder of a DICOM series.

    Example:
        >>> list_formats("a.jpg"), list_formats("a.nrrd")
        (('png', 'tiff'), ('nifti',))
    """
    path = Path(path)
    if path.suffix.lower() in PICTURES:
        return ("png", "tiff")
    return ("nifti", "seg") if path.is_dir() else ("nifti",)


def require_format(path: str | Path, format: str) -> None:
    """Refuse a format that the mask of an image cannot have.

    Args:
        path: see `list_formats`.
        format: one of `ENDINGS`.

    Raises:
        InputError: the image is of another kind.
    """
    path, known = Path(path), list_formats(path)
    if format not in known:
        kind = "a DICOM series" if path.is_dir() else "a picture" if "png" in known else f"a {path.suffix} file"
        what = "DICOM SEG" if format == "seg" else format
        hint = f"choose --format {' or '.join(known)}, or leave it out"
        raise InputError(f"{path} is {kind}, for which no mask is written as {what}; {hint}")
