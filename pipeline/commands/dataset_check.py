"""The command ``pipeline dataset check``: its arguments and its run."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.arguments import add_dataset_dir, add_jobs, positive
from pipeline.commands.termination import exit_on_sigterm
from pipeline.datasets.manifests.manifest import Manifest
from pipeline.datasets.manifests.manifest_file import read_bytes
from pipeline.issues import show_controls

if TYPE_CHECKING:
    from pipeline.datasets.checks.integrity import Report
    from pipeline.datasets.checks.options import CheckOptions

# Most of a report are pictures of leaking pairs.
_HTML_BYTES = 20_000_000
_BASELINE_BYTES = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="manifest of the dataset")
    add_dataset_dir(parser)
    level = parser.add_mutually_exclusive_group()
    text = "the manifest, and whether files exist"
    level.add_argument("--quick", dest="level", action="store_const", const="quick", help=text)
    text = "decode all pixels: cut-off files, mask values, copies of images"
    level.add_argument("--deep", dest="level", action="store_const", const="deep", help=text)
    parser.set_defaults(level="default")
    text = "the cases that must exist (default: all, but test cases may be absent)"
    parser.add_argument("--split", choices=("train", "val", "test", "all"), help=text)
    add_jobs(parser)
    text = "skip files that have not changed since their last check; misses decay on the disk"
    parser.add_argument("--cached", action="store_true", help=text)
    _add_limits(parser.add_argument_group("limits"))
    _add_outputs(parser.add_argument_group("output"))


def _add_limits(group: argparse._ArgumentGroup) -> None:
    text = "refuse larger images from their header (default: 178956970; volumes 2147483648, but DICOM)"
    group.add_argument("--max-pixels", metavar="N", type=positive, help=text)
    text = "size of the training patch in voxels: warn of smaller cases"
    group.add_argument("--roi-size", metavar="N", type=positive, nargs="+", default=(), help=text)
    text = "product of the network's strides: warn of sizes that are not a multiple"
    group.add_argument("--divisible-by", metavar="N", type=positive, default=1, help=text)
    group.add_argument("--require-patient", action="store_true", help="a case without patient is an error")
    group.add_argument("--no-near", action="store_true", help="do not look for near copies of images")


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", action="store_true", help="print the findings as JSON")
    group.add_argument("--quiet", action="store_true", help="print findings only, no progress")
    group.add_argument("--html", metavar="FILE", type=Path, help="write a report with pictures of leaking pairs")
    text = "accept the findings listed there; report those that are gone"
    group.add_argument("--baseline", metavar="FILE", type=Path, help=text)
    text = "write all findings to a baseline, so that only new ones fail"
    group.add_argument("--write-baseline", metavar="FILE", type=Path, help=text)
    text = "if there is no error, add the missing sha256 to MANIFEST"
    group.add_argument("--write-checksums", action="store_true", help=text)


def run(args: argparse.Namespace) -> int:
    """Compare a dataset with its manifest: 1 if there are errors, 143 after SIGTERM."""
    from pipeline.datasets.checks.baseline import apply_baseline, read_baseline, write_baseline
    from pipeline.datasets.checks.checksums import add_checksums

    for given, option in ((args.level == "quick", "--quick"), (args.cached, "--cached")):
        if args.write_checksums and given:
            args.parser.error(f"--write-checksums: {option} does not read the files; leave out one of them")
    baseline = read_baseline(args.baseline) if args.baseline else None
    _require_outputs(args)
    root = Path(os.path.abspath(args.dataset_dir.expanduser()))
    with exit_on_sigterm():
        manifest, report, records = _check(args, root)
        if baseline is not None and manifest is not None:
            report = apply_baseline(report, baseline, args.level, records)
        if args.html:
            from pipeline.reports.dataset_html import write_html

            write_html(report, args.html, title=_title(args), manifest=manifest, root=root)
        if args.write_baseline:
            number = write_baseline((*report.issues, *report.accepted), args.level, args.write_baseline)
            print(f"{args.write_baseline}: accepts {number} findings", file=sys.stderr)
        if args.write_checksums and manifest is not None:
            added = add_checksums(args.manifest, manifest, report)
            print(f"{args.manifest}: {added} sha256 added", file=sys.stderr)
        _print(args, report)
    accepted_now = bool(args.write_baseline) and manifest is not None
    blocking = [issue for issue in report.errors() if not accepted_now or issue.code == "missing-dataset"]
    return 1 if blocking else 0


def _require_outputs(args: argparse.Namespace) -> None:
    from pipeline.datasets.output_space import require_space

    for path, needed in ((args.html, _HTML_BYTES), (args.write_baseline, _BASELINE_BYTES)):
        if path is not None:
            require_space(path, needed)
    if args.write_checksums:
        require_space(args.manifest, 2 * len(read_bytes(args.manifest)))


def _check(args: argparse.Namespace, root: Path) -> tuple[Manifest | None, Report, list[str] | None]:
    """Return the manifest if it can be read, the findings, and the records checked (None: all)."""
    from pipeline.commands.progress import show_progress
    from pipeline.datasets.checks.cache import FileCache
    from pipeline.datasets.checks.integrity import Report, check_manifest
    from pipeline.datasets.datalist import select_cases
    from pipeline.datasets.manifests.schema import parse_manifest

    manifest, issues = parse_manifest(read_bytes(args.manifest), root)
    if manifest is None:
        return None, Report(tuple(issues)), None
    cases = select_cases(manifest, args.split, None) if args.split else None
    report = check_manifest(
        manifest,
        root,
        level=args.level,
        cases=cases,
        jobs=args.jobs,
        progress=None if args.quiet else show_progress,
        options=_read_options(args),
        cache=None if args.level == "quick" else FileCache(root),
        trust_cache=args.cached,
    )
    report = replace(report, issues=(*issues, *report.issues))
    return manifest, report, None if cases is None else [case.case_id for case in cases]


def _read_options(args: argparse.Namespace) -> CheckOptions:
    from pipeline.datasets.checks.options import CheckOptions

    given = {} if args.max_pixels is None else {"max_pixels": args.max_pixels}
    if args.max_pixels is not None:
        from PIL import Image

        # Pillow has a separate limit, half of which only warns.
        Image.MAX_IMAGE_PIXELS = max(args.max_pixels, Image.MAX_IMAGE_PIXELS or 0)
    return CheckOptions(
        roi_size=tuple(args.roi_size),
        divisible_by=args.divisible_by,
        require_patient=args.require_patient,
        search_near=not args.no_near,
        **given,
    )


def _print(args: argparse.Namespace, report: Report) -> None:
    import json

    from pipeline.datasets.checks.report import format_report, report_to_dict

    if args.json:
        where = {"manifest": str(args.manifest), "dataset_dir": str(args.dataset_dir), "level": args.level}
        print(json.dumps({**where, **report_to_dict(report)}, indent=1, ensure_ascii=False))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        text = format_report(report, title=_title(args), colour=colour, quiet=args.quiet)
        # A file name that is not valid Unicode cannot be printed as it is.
        print(text.encode("utf-8", "backslashreplace").decode(), end="\n" if text else "")


def _title(args: argparse.Namespace) -> str:
    return show_controls(f"{args.manifest} against {args.dataset_dir} ({args.level} check)")
