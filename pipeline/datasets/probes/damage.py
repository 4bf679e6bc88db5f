"""Diagnose files that no reader accepts: cut off, a pointer to the real file, a web page, or something else."""

from pipeline.datasets.probes import ImageError, ImageSource

_MAGIC = (b"II*\0", b"MM\0*", b"\x89PNG", b"\xff\xd8\xff", b"BM", b"\x1f\x8b")
_POINTERS = {
    b"version https://git-lfs": "a Git LFS pointer; run git lfs pull",
    b"/annex/objects/": "a git-annex pointer; run git annex get",
    b"<!doctype": "a web page; download the file again",
    b"<html": "a web page; download the file again",
}


def explain_damage(source: ImageSource, error: Exception, magic: tuple[bytes, ...] = _MAGIC) -> ImageError:
    """Distinguish a damaged image (``truncated``) from a file of another kind (``not-an-image``), or unreadable.

    ``error`` is that of the reader, ``magic`` the first bytes of files of the format, intact or damaged.
    """
    try:
        head, size = source.head(), source.size()
    except OSError as problem:
        return ImageError("unreadable-file", (problem.strerror or str(problem)).lower())
    for mark, what in _POINTERS.items():
        if mark in head.lower():
            return ImageError("not-an-image", f"looks like {what.split(';')[0]}", what.split("; ")[1])
    if head.startswith(magic):
        reason = str(error).replace(f" file {str(source.path)!r}", "") or type(error).__name__
        return ImageError("truncated", f"damaged or cut off at {size} bytes ({reason})", "restore the file")
    return ImageError("not-an-image", f"not an image: starts with {head[:16]!r}", "restore the file")
