"""A case with the facts read from its files, the input of all checks of a case; and the labels of mask values."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pipeline.datasets.checks.options import CheckOptions
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.probes import Probe
from pipeline.issues import Issue

_COLOUR_MODES = ("RGB", "RGBA")


@dataclass(frozen=True)
class CaseView:
    """A case with the facts read from its files."""

    manifest: Manifest  #: the manifest of the case
    case: Case  #: the case
    probes: Mapping[str, Probe]  #: facts of each readable file by path; of an annotated mask by path and fragment
    options: CheckOptions = field(default_factory=CheckOptions)  #: limits and thresholds
    #: voxels of each label id in the union of several masks of one image; None if unknown
    united: Mapping[int, int] | None = None

    def images(self) -> Iterator[tuple[str, Probe]]:
        """Yield path and probe of each image file that was read."""
        return self._known(self.case.image)

    def masks(self) -> Iterator[tuple[str, Probe]]:
        """Yield path and probe of each mask that was read."""
        return self._known(self.case.label or ())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the paths of each mask's image and of the mask: by position, or all masks with the only image."""
        masks = self.case.label or ()
        images = self.case.image * len(masks) if self.case.has_several_masks() else self.case.image
        return zip(images, masks, strict=False)

    def _known(self, paths: tuple[str, ...]) -> Iterator[tuple[str, Probe]]:
        return ((path, self.probes[path]) for path in paths if path in self.probes)

    def error(self, code: str, path: str, message: str, hint: str = "") -> Issue:
        """Return an error about one file of the case."""
        return Issue(code, "error", message, record=self.case.case_id, path=path, hint=hint)

    def warning(self, code: str, path: str, message: str, hint: str = "") -> Issue:
        """Return a warning about one file of the case."""
        return Issue(code, "warning", message, record=self.case.case_id, path=path, hint=hint)


def format_size(lengths: Iterable[float]) -> str:
    """Return lengths as text.

    Example:
        >>> format_size((256, 256)), format_size((0.5, 1.0))
        ('256 x 256', '0.5 x 1')
    """
    return " x ".join(f"{length:g}" if isinstance(length, float) else str(length) for length in lengths)


def count_foreground(view: CaseView) -> int | None:
    """Return the number of foreground voxels of the case, None if not all masks were decoded."""
    voxels = count_labels(view)
    return None if voxels is None else sum(number for label, number in voxels.items() if label != 0)


def count_labels(view: CaseView) -> dict[int, int] | None:
    """Return the number of voxels of each label id, None without masks or if not all were decoded.

    Values become labels by the manifest's rules; the ignored value is left out, an unknown one stays as it is.
    """
    if view.case.has_several_masks():
        return None if view.united is None else dict(view.united)
    total: Counter[int] = Counter()
    for path in view.case.label or ():
        probe = view.probes.get(path)
        if probe is None or probe.content is None:
            return None
        for value, number in probe.content.counts.items():
            if value != view.manifest.ignore_index or uses_colours(view.manifest, probe):
                total[label_of(view.manifest, probe, value)] += number
    return dict(total) if view.case.label else None


def label_of(manifest: Manifest, probe: Probe, value: float) -> int:
    """Return the label id of a mask's value; a value that the manifest does not define stays as it is."""
    if uses_colours(manifest, probe):
        return manifest.color_map.get(name_colour(probe, value), int(value))
    if manifest.binarize is not None:
        return int(value >= manifest.binarize)
    # Masks hold integers; the checks of labels report other values.
    return manifest.mask_values.get(int(value), int(value))


def uses_colours(manifest: Manifest, probe: Probe) -> bool:
    """Return whether the pixels of a mask are colours that the manifest's ``color_map`` defines."""
    return bool(manifest.color_map) and (probe.header.get("mode") in _COLOUR_MODES or "palette" in probe.header)


def has_colours(probe: Probe) -> bool:
    """Return whether each value of a decoded mask is a colour, packed as 0xRRGGBB; grey ones are counted as grey."""
    return probe.header.get("mode") in _COLOUR_MODES and not probe.header.get("grey")


def name_colour(probe: Probe, value: float) -> str:
    """Return the colour ``"#rrggbb"`` of a value of a coloured or palette mask."""
    palette = probe.header.get("palette")
    if palette is None and probe.header.get("grey"):
        return "#" + 3 * f"{int(value):02x}"
    if palette is None:
        return f"#{int(value):06x}"
    return str(palette[int(value)]) if int(value) < len(palette) else "#000000"
