"""The command ``pipeline predict``: its arguments and what it prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.prediction.prediction_run import Prediction

_MOST_NAMED = 5  # cases to look at first
_FORMATS = ("nifti", "png", "tiff", "seg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", help="name of a bundle in bundles/, or the folder of one")
    add("inputs", metavar="FILE", nargs="+", help="images, folders, DICOM series: as many as you like")
    text = "folder of the masks and of sizes.csv"
    add("-o", "--output_dir", "--output-dir", metavar="DIR", type=Path, required=True, help=text)
    text = "of the masks: nifti, png, tiff, or seg, a DICOM segmentation (default: as the image)"
    add("--format", choices=_FORMATS, metavar="FORMAT", help=text)
    add("--checkpoint", metavar="FILE", help="weights (default: the bundle's)")
    add("--overlay", action="store_true", help="also write the image with outlines")
    add("--figure", action="store_true", help="also write image, prediction and overlay side by side")
    add("--probabilities", action="store_true", help="also write the probability of each label")
    add("--doubt", action="store_true", help="also write how unsure the network is, from 0 to 1 (entropy)")
    text = "report what cannot be predicted, leave it out, and end with 1"
    add("--keep-going", action="store_true", help=text)
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1 (default: the bundle's choice)")
    text = "more configs, such as tta.json: paths, or names in the bundle's configs; may be repeated"
    add("--config_file", "--config-file", metavar="FILE", action="append", default=[], help=text)
    text = "override an id of inference.json; may be repeated"
    add("--set", metavar="ID=VALUE", action="append", default=[], help=text)


def run(args: argparse.Namespace) -> int:
    """Predict all inputs; 1 if one was left out."""
    from pipeline.bundle.config_files import BUNDLES, find_bundle
    from pipeline.bundle.monai_import import import_monai
    from pipeline.bundle.overrides.assignments import read_assignments
    from pipeline.commands.termination import exit_on_sigterm
    from pipeline.prediction.prediction_options import PredictionOptions
    from pipeline.prediction.received_bundles import require_own

    require_own(args.bundle)
    options = PredictionOptions(
        bundle=find_bundle(args.bundle, [BUNDLES]),
        configs=args.config_file,
        values=read_assignments("--set", args.set),
        **{name: getattr(args, name) for name in ("inputs", "output_dir", "checkpoint", "device", "format")},
        **{name: getattr(args, name) for name in ("overlay", "figure", "probabilities", "doubt", "keep_going")},
    )
    import_monai()
    from pipeline.prediction.prediction_run import predict

    with exit_on_sigterm():
        prediction = predict(options)
    for line in prediction.refused.values():
        print(f"skipped: {line}", file=sys.stderr)
    print(describe(prediction))
    return 1 if prediction.refused else 0


def describe(prediction: Prediction) -> str:
    """Return what was done, in a few lines."""
    number, empty, skipped = prediction.predicted, len(prediction.empty), len(prediction.refused)
    if not number:
        return f"nothing predicted, {skipped} skipped"
    each = prediction.seconds / number
    parts = [f"{number} predicted, {each:.2g} s each", f"{empty} with an empty mask", f"{skipped} skipped"]
    lines = [", ".join(parts), f"masks in {prediction.output_dir}, sizes in {prediction.sizes}"]
    if number > 1:
        lines.append(f"look first at {', '.join(_rank(prediction.doubts))}")
    return "\n".join(lines)


def _rank(doubts: Mapping[str, float]) -> list[str]:
    """Return the least certain fifth of the cases, at most a few, with their doubt."""
    from pipeline.issues import show_controls

    ranked = sorted(doubts, key=lambda case: -doubts[case])[: min(_MOST_NAMED, -(-len(doubts) // 5))]
    return [f"{show_controls(case)} (doubt {doubts[case]:.2f})" for case in ranked]
