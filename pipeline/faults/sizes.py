"""Errors of sizes and channels that do not fit a network, a loss or a batch."""

import re
from collections.abc import Iterator, Sequence

from pipeline.faults.causes import Cause
from pipeline.faults.fault import Fault

_DIVISIBLE = "set roi_size or image_size to multiples of 32 in every direction in which the network halves it"
# Pattern in the error of torch or MONAI, what it means, what to do.
_SHAPES = (
    (
        r"to have (\d+) channels, but got (\d+) channels",
        "the network expects {} channels, the images have {}",
        "set network_def#in_channels and the transforms that choose channels to the same number",
    ),
    (
        r"Sizes of tensors must match except in dimension|The size of tensor a \(\d+\) must match the size of tensor b",
        "sizes inside the network differ where two of its paths meet",
        _DIVISIBLE,
    ),
    (
        r"Expected more than 1 (?:value per channel|spatial element) when training, got input size",
        "the network halves the image down to a single value, which cannot be normalised",
        "raise roi_size or image_size, or give it fewer levels in network_def",
    ),
    (
        r"Kernel size can't be greater than actual input size|[Oo]utput size is too small|non-zero size.*for input",
        "the image is smaller than the network's kernels",
        "raise roi_size or image_size, or give it fewer levels in network_def",
    ),
    (
        r"stack expects each tensor to be equal size, but got (\[[\d, ]*\]) at entry 0 and (\[[\d, ]*\])",
        "the images of a batch differ in size after the transforms: {} and {}",
        "pad and crop them to roi_size or image_size, or set --batch_size 1",
    ),
    (
        r"ground truth has differ\w* shape \(torch\.Size\((\[.*?\])\)\) from input \(torch\.Size\((\[.*?\])\)\)",
        "the masks of a batch have the shape {}, the network's output {}",
        "set network_def#out_channels to the number of channels that loss expects",
    ),
)


def find_sizes(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise sizes that do not fit; only where a network, a loss or a batch is computed."""
    for _, text in causes if not any("applying transform" in cause.text for cause in causes) else ():
        for pattern, what, advice in _SHAPES:
            match = re.search(pattern, text)
            if match:
                yield Fault(what.format(*match.groups()), advice)


def find_empty_list(causes: Sequence[Cause]) -> Iterator[Fault]:
    """Recognise that a loader that shuffles was given no cases, as by a client without data."""
    if any("num_samples should be a positive integer value, but got num_samples=0" in text for _, text in causes):
        what = "there are no training cases: the list in train#dataset#data is empty"
        yield Fault(what, "give it at least one image with its label", traced=False)
