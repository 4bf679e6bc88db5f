"""Check the input files of inference before the network starts, and report problems in one line."""

import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.datasets.checks import contents, geometry, image_files
from pipeline.datasets.checks.case_view import CaseView, format_size
from pipeline.datasets.digests import map_threads
from pipeline.datasets.files import check_presence
from pipeline.datasets.inputs.refusals import Refuse
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.probes import VOLUMES, ImageError, Probe, probe_image
from pipeline.issues import InputError, Issue, join_lines

_LOGGER = logging.getLogger(__name__)
_CHECKS: tuple[Callable[[CaseView], Iterator[Issue]], ...] = (
    contents.check_format,
    image_files.check_image_mode,
    image_files.check_garbled,
    image_files.check_inversion,
    image_files.check_orientation,
    geometry.check_affines,
    geometry.check_series,
    geometry.check_grey_scale,
    contents.check_finite,
    contents.check_constant,
)
# Replace hints about a manifest, which inference does not have.
_HINTS = {
    "dicom-series": "restore the missing files, and put each series into a separate folder",
    "suffix-mismatch": "rename the file",
    "exif-orientation": "its mask gets the same orientation",
}
_VOLUME_AXES = 3
# Pillow's mode, and its name, by number of channels.
_MODES = {1: ("L", "grey"), 3: ("RGB", "colour")}


def require_sound(root: Path, cases: Sequence[Case], channels: int | None, refused: Refuse | None = None) -> list[Case]:
    """Read all files of the cases; log warnings, one line per kind, and raise errors or tell them to ``refused``.

    Reading twice costs little compared to a network. The cases are pictures, files of volumes, or the files of
    DICOM series. ``channels`` is their number without opaque alpha; None accepts any.

    Returns:
        The cases without errors.

    Raises:
        InputError: the first error, and how many more there are.
    """
    files = [path for case in cases for path in case.image]
    found = dict(zip(files, map_threads(lambda path: _probe(root, path), files), strict=True))
    by_case = [list(_find_issues(case, found, channels)) for case in cases]
    issues = [issue for of_case in by_case for issue in of_case]
    errors = [[issue for issue in of_case if issue.severity == "error"] for of_case in by_case]
    every = [issue for of_case in errors for issue in of_case]
    if every and refused is None:
        raise InputError(_describe_all(root, every))
    for of_case in filter(None, errors):
        if refused is not None:
            refused(str(root / of_case[0].path), _describe_all(root, of_case))
    _warn(root, [issue for issue in issues if issue.severity != "error"])
    return [case for case, of_case in zip(cases, errors, strict=True) if not of_case]


def _describe_all(root: Path, errors: Sequence[Issue]) -> str:
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{_describe(root, errors[0])}{more}"


def _warn(root: Path, issues: Sequence[Issue]) -> None:
    for code in dict.fromkeys(issue.code for issue in issues):
        same = [issue for issue in issues if issue.code == code]
        more = f" (and {len(same) - 1} more)" if len(same) > 1 else ""
        _LOGGER.warning("%s%s", _describe(root, same[0]), more)


def _describe(root: Path, issue: Issue) -> str:
    hint = _HINTS.get(issue.code, issue.hint)
    return join_lines(f"{root / issue.path}: {issue.message}" + (f"; {hint}" if hint else ""))


def _probe(root: Path, path: str) -> Probe | Issue:
    problem = check_presence(root, path)
    if problem is not None:
        return problem
    try:
        return probe_image(root / path, decode=True, is_mask=False)
    except ImageError as error:
        return Issue(error.code, "error", error.message, path=path, hint=error.hint)
    except OSError as error:
        return Issue("unreadable-file", "error", f"cannot be read: {(error.strerror or str(error)).lower()}", path=path)


def _find_issues(case: Case, found: dict[str, Probe | Issue], channels: int | None) -> Iterator[Issue]:
    probes = {}
    for path in case.image:
        result = found[path]
        if isinstance(result, Probe):
            probes[path] = result
        else:
            yield result
    series = any(probe.format == "DICOM" for probe in probes.values())
    view = CaseView(replace(_INPUTS, stacking="series" if series else "slices"), case, probes)
    for path, probe in probes.items():
        yield from _check_channels(view, path, probe, channels)
    for check in _CHECKS:
        yield from check(view)


def _check_channels(view: CaseView, path: str, probe: Probe, channels: int | None) -> Iterator[Issue]:
    if probe.format in VOLUMES and len(probe.shape) < _VOLUME_AXES:
        yield view.error("ndim", path, f"the image is {format_size(probe.shape)}, expected a volume with 3 axes")
    if channels is None or probe.channels == channels:
        return
    if geometry.has_fourth_axis(probe):
        message = f"the volume has a fourth axis of {probe.channels}, expected {channels}"
        yield view.error("ndim", path, message, "save one file per volume")
        return
    alpha = probe.header.get("alpha")
    colours = probe.channels - bool(alpha)
    if alpha == "varies" and channels in (1, 3, colours):
        yield view.error("alpha-varies", path, "the alpha channel is not opaque everywhere", "flatten the file")
    elif colours == channels:
        return
    elif (colours, channels) == (1, 3) and "mode" in probe.header:
        yield view.warning("grey-picture", path, "grey, read as equal red, green and blue")
    elif (colours, channels) == (3, 1) and probe.header.get("grey"):
        yield view.warning("grey-picture", path, "grey saved in colour, read as one channel")
    else:
        message = f"has {probe.channels} channels, expected {channels}"
        yield view.error("channels", path, message, suggest_conversion(view, path, channels))


def suggest_conversion(view: CaseView, path: str, channels: int) -> str:
    """Return the command that saves a picture with another number of channels, where there is one."""
    if channels not in _MODES or "mode" not in view.probes[path].header:
        return f"the network was trained on images of {channels} channels"
    mode, kind = _MODES[channels]
    target = f"{path.rpartition('.')[0]}_{kind}.png"
    code = f"from PIL import Image; Image.open({path!r}).convert({mode!r}).save({target!r})"
    return f"the network was trained on {kind} pictures; in its folder: python -c {shlex.quote(code)}"


_INPUTS = Manifest("inputs", "segmentation", "", "", {0: "background"}, {0: 0}, channels=(), cases=())
