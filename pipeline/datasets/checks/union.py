"""The union of several masks of one image."""

from collections.abc import Mapping

from pipeline.datasets.checks.case_view import label_of
from pipeline.datasets.manifests.manifest import Case, Manifest
from pipeline.datasets.probes import ImageSource, Probe


def count_union(
    manifest: Manifest, case: Case, sources: Mapping[str, ImageSource], probes: Mapping[str, Probe]
) -> dict[int, int] | None:
    """Return the number of pixels of each label id in the union of a case's masks, the highest where they overlap.

    Args:
        manifest: says what the masks' values mean.
        case: one image with several masks.
        sources: the mask files, by path.
        probes: their facts, by path.

    Returns:
        Counts by label id; None unless all masks were decoded, are grey, and have one size.
    """
    import numpy as np

    from pipeline.datasets.probes.raster import read_mask

    labels = []
    for path in case.label or ():
        probe = probes.get(path)
        if probe is None or probe.content is None or path not in sources:
            return None
        try:
            stored = read_mask(sources[path])
        except (OSError, ValueError, SyntaxError):
            return None
        encoded = np.zeros(stored.shape, np.int64)
        for value in probe.content.counts:
            encoded[stored == value] = label_of(manifest, probe, value)
        labels.append(encoded)
    if len({mask.shape for mask in labels}) != 1:
        return None
    ids, numbers = np.unique(np.maximum.reduce(labels), return_counts=True)
    return {int(label): int(number) for label, number in zip(ids, numbers, strict=True)}
