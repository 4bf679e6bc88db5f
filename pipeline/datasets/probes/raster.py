"""Pictures: TIFF, PNG, JPEG and BMP, read with Pillow."""

from __future__ import annotations

from typing import Any

from pipeline.datasets.probes import Content, ImageError, Probe, Source
from pipeline.datasets.probes.damage import explain_damage
from pipeline.datasets.probes.pixels import summarise_pixels

_DTYPES = {"1": "bool", "I": "int32", "F": "float32", "I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16"}


def probe(source: Source, decode: bool, is_mask: bool, max_pixels: int) -> Probe:
    """Read a picture; see `pipeline.datasets.probes.probe_image`."""
    from PIL import Image

    try:
        with source.open() as stream, Image.open(stream) as image:
            columns, rows = image.size
            if columns * rows > max_pixels:
                raise ImageError("too-large", f"{rows} x {columns} pixels; the limit is {max_pixels} pixels")
            header = {"mode": image.mode}
            content = _summarise(image, is_mask) if decode else None
            return Probe(
                format=str(image.format),
                shape=(rows, columns),
                channels=len(image.getbands()),
                pages=int(getattr(image, "n_frames", 1)),
                content=content,
                dtype=_DTYPES.get(image.mode, "uint8"),
                header=header,
            )
    except Image.DecompressionBombError:
        raise ImageError("too-large", f"more than {max_pixels} pixels") from None
    except Exception as error:
        # Pillow raises about anything for a damaged file: OSError, SyntaxError, ValueError, struct.error, KeyError.
        if isinstance(error, ImageError | MemoryError):
            raise
        raise explain_damage(source, error) from None


def _summarise(image: Any, is_mask: bool) -> Content:
    import numpy as np

    return summarise_pixels(np.asarray(image), is_mask)
