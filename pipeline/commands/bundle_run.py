"""The command ``pipeline bundle run``: its arguments and its run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.bundle.running.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.usage = "%(prog)s BUNDLE|ZIP CONFIG [CONFIG ...] [options] [--ID VALUE ...]"
    parser.add_argument("bundle", metavar="BUNDLE|ZIP", help="name or folder of a bundle, or a zip file")
    text = "train, evaluate, inference or a file in configs/; files of yours that change it follow"
    parser.add_argument("configs", metavar="CONFIG", nargs="+", help=text)
    text = "your allow-list, a file outside of the bundle, see bundle audit"
    parser.add_argument("--allow", metavar="FILE", type=Path, help=text)
    parser.add_argument("--allow-code", action="store_true", help="let the bundle's own code run")
    text = "run only the zip file with this SHA-256, which the sender told you another way"
    parser.add_argument("--sha256", metavar="DIGEST", help=text)
    text = "run only what the owner of this public key (PEM) signed; needs the extra sign"
    parser.add_argument("--key", metavar="PUB", type=Path, help=text)
    parser.add_argument("--dry-run", action="store_true", help="audit, say what would run, and run nothing")
    # What no option takes is --ID VALUE, as for python -m monai.bundle run.
    parser.set_defaults(words=[])


def run(args: argparse.Namespace) -> int:
    """Audit what would run, and run it if the audit is clean or the receiver allows the rest; 1 if it is refused."""
    from pipeline.bundle.running.import_places import forget_local_places

    forget_local_places(Path(args.bundle))  # before anything is imported that Python does not bring
    from pipeline.bundle.audit import Allowances, read_allowances
    from pipeline.bundle.config_files import BUNDLES, find_bundle
    from pipeline.bundle.running.plan import make_plan
    from pipeline.bundle.running.received import open_received
    from pipeline.commands.termination import exit_on_sigterm

    bundle = Path(args.bundle)
    if not bundle.exists() and bundle.suffix != ".zip":
        bundle = find_bundle(args.bundle, [BUNDLES])
    allowances = read_allowances(args.allow, bundle) if args.allow else Allowances()
    with exit_on_sigterm(), open_received(bundle, args.sha256) as received:
        plan = make_plan(received, args.configs, args.words, allowances, allow_code=args.allow_code)
        print(plan.result.format(), file=sys.stderr)
        refusal = plan.explain_refusal(bundle, allowances, args.allow)
        if refusal:
            print(f"error: {refusal}", file=sys.stderr)
            return 1
        return _start(plan, args)


def _start(plan: Plan, args: argparse.Namespace) -> int:
    from pipeline.bundle.packing.signature import verify_folder
    from pipeline.bundle.packing.unpacking import list_fetched
    from pipeline.bundle.running.received import open_folder

    with open_folder(plan.received, plan.result) as root:
        if args.key is not None:
            verify_folder(root, args.key, list_fetched(root))
        if args.dry_run:
            print(plan.describe(args.bundle))
            return 0
        print(f"starting {', '.join(map(str, plan.chosen.files))}", file=sys.stderr)
        try:
            plan.start(root)
        except Exception as error:
            from pipeline.handlers.run.one_line_errors import print_error

            print_error(type(error), error, error.__traceback__)
            return 1
    return 0
