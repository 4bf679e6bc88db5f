"""The command ``pipeline bundle check``: its arguments and its run."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    parser.add_argument("bundles", metavar="BUNDLE", nargs="*", help="name or folder of a bundle (default: all)")
    parser.add_argument(
        "--config",
        metavar="NAME",
        nargs="+",
        default=[],
        help="configs of one run, such as train evaluate (default: all)",
    )
    parser.add_argument(
        "--override", metavar="ID=VALUE", nargs="+", default=[], help="what the run's command line would change"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print what would fail when the bundles run, one line a finding; 1 if there is an error."""
    import json

    from pipeline.bundle.check.bundle_check import check_bundle
    from pipeline.bundle.config_files import BUNDLES, find_bundle, find_bundles
    from pipeline.bundle.overrides.assignments import read_assignments

    bundles = [find_bundle(name, [BUNDLES]) for name in args.bundles] or find_bundles(BUNDLES)
    values = read_assignments("--override", args.override)
    found = {str(bundle): check_bundle(bundle, args.config, values) for bundle in bundles}
    if args.json:
        print(json.dumps({name: [issue.to_dict() for issue in issues] for name, issues in found.items()}, indent=2))
    for name, issues in found.items() if not args.json else ():
        print(f"{name}: {len(issues)} findings" if issues else f"{name}: nothing found")
        print("".join(f"  {issue.one_line()}\n" for issue in issues), end="")
    return int(any(issue.severity == "error" for issues in found.values() for issue in issues))
