"""2-D images: TIFF, PNG, JPEG and BMP, read with Pillow."""

import functools
from typing import Any

from pipeline.datasets.probes import Content, ImageError, ImageSource, Probe
from pipeline.datasets.probes.damage import explain_damage
from pipeline.datasets.probes.orientation import QUARTER_TURNS, read_orientation
from pipeline.datasets.probes.pixels import OPAQUE, is_grey, merge_channels, summarise_pixels

# Pillow knows forty formats, some of which start other programs; only these are tried, the commonest first.
FORMATS = ("TIFF", "PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")
_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0
_DTYPES = {"1": "bool", "I": "int32", "F": "float32", "I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16"}


def probe(source: ImageSource, decode: bool, is_mask: bool, max_pixels: int) -> Probe:
    """Read a 2-D image; see `pipeline.datasets.probes.probe_image`.

    The header holds Pillow's ``mode``, ``exif_orientation`` if it is not 1, ``palette`` (a colour ``"#rrggbb"`` by
    index) of palette masks, ``inverted`` if a TIFF file counts from white, ``garbled`` if Pillow reads it wrongly; and
    once decoded ``alpha`` (``"opaque"`` or ``"varies"``), and ``grey`` if red, green and blue are equal. Masks are
    counted by grey value, coloured ones by colour, packed as 0xRRGGBB; an alpha channel is left out of the statistics.
    """
    from PIL import Image

    try:
        with source.open() as stream, Image.open(stream, formats=FORMATS) as image:
            columns, rows = image.size
            if columns * rows > max_pixels:
                message = f"{rows} x {columns} pixels; the limit is {max_pixels} pixels"
                raise ImageError("too-large", message, "scale it down")
            # Counting the pages of a TIFF reads the first again; usually its directory says that no second follows.
            single = image.format == "TIFF" and getattr(getattr(image, "tag_v2", None), "next", None) == 0
            pages = 1 if single else int(getattr(image, "n_frames", 1))
            mode, channels = image.mode, len(image.getbands())
            header = _describe(image, is_mask)
            content = _summarise(image, is_mask, header) if decode else None
            dtype = _DTYPES.get(mode, "uint8")
            return Probe(str(image.format), (rows, columns), channels, pages, content, dtype, header=header)
    except Image.DecompressionBombError:
        raise ImageError("too-large", f"more than {max_pixels} pixels", "scale it down") from None
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        # For damaged files Pillow raises OSError, SyntaxError, ValueError, struct.error, KeyError and others.
        raise explain_damage(source, error) from None


def read_mask(source: ImageSource) -> Any:
    """Return the pixels of a mask ``(H, W)`` as they are stored; raise `ValueError` or `OSError` if it is not grey."""
    import numpy as np
    from PIL import Image

    with source.open() as stream, Image.open(stream, formats=FORMATS) as image:
        return merge_channels(np.asarray(image))


def _describe(image: Any, is_mask: bool) -> dict[str, Any]:
    header: dict[str, Any] = {"mode": image.mode}
    orientation = read_orientation(image)
    if orientation != 1:
        header["exif_orientation"] = orientation
        mapped = image.format == "TIFF" and image.info.get("compression") == "raw" and len(image.getbands()) == 1
        if mapped and image.mode != "1" and orientation in QUARTER_TURNS:
            # Pillow maps the file into memory in the shape that it has after the turn.
            header["garbled"] = True
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        header["inverted"] = True
    if is_mask and image.mode == "P":
        header["palette"] = _name_colours(bytes(image.getpalette("RGB") or []))
    return header


@functools.lru_cache(maxsize=64)
def _name_colours(palette: bytes) -> list[str]:
    """Return the colours of a palette; cached, because most masks of a dataset share one."""
    return [f"#{palette[i : i + 3].hex()}" for i in range(0, len(palette) - 2, 3)]


def _summarise(image: Any, is_mask: bool, header: dict[str, Any]) -> Content:
    import numpy as np

    array = np.asarray(image)
    if image.mode in ("RGBA", "LA"):
        header["alpha"] = "opaque" if array[..., -1].min() == OPAQUE else "varies"
        array = array[..., :-1] if image.mode == "RGBA" else array[..., 0]
    if image.mode in ("RGB", "RGBA", "LA") and (image.mode == "LA" or is_grey(array)):
        header["grey"] = True
    if is_mask and array.ndim == 3 and array.shape[-1] == 3:
        array = array[..., 0] if "grey" in header else _pack_colours(array)
    return summarise_pixels(array, is_mask)


def _pack_colours(array: Any) -> Any:
    import numpy as np

    return (array.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(axis=-1, dtype=np.uint32)
