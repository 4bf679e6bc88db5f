"""The command ``pipeline federated``: its arguments and its run."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.arguments import positive
from pipeline.issues import InputError, format_examples

if TYPE_CHECKING:
    from pipeline.federated.result import Result

_BUNDLES = Path("bundles")
_EXAMPLES = {
    "new": (
        "federated new lgg_unet --sites north,south -o federation",
        "federated new lgg_unet --sites north,south -o federation --rounds 20 --local_epochs 2",
    ),
    "simulate": ("federated simulate federation",),
    "result": (
        "federated result federation lgg_unet -o lgg_federated",
        "federated result downloaded_job lgg_unet -o lgg_federated",
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `run`."""
    verbs = parser.add_subparsers(metavar="COMMAND", dest="verb", required=True)
    texts = {
        "new": "write an NVFlare job that trains a bundle at several sites, and the file of their paths",
        "simulate": "run a federation on this machine",
        "result": "write the best weights of a federation as a bundle",
    }
    leaves = {}
    for verb, text in texts.items():
        leaf = verbs.add_parser(verb, help=text, description=text, epilog=format_examples(_EXAMPLES[verb]))
        leaf.set_defaults(parser=leaf, verb=verb)
        leaves[verb] = leaf
    _add_new(leaves["new"])
    leaves["simulate"].add_argument("folder", metavar="FEDERATION", type=Path, help="folder of federated new")
    _add_result(leaves["result"])


def _add_new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle to train: name or folder")
    parser.add_argument("--sites", metavar="NAMES", required=True, help="names of the sites: north,south")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to write")
    parser.add_argument("--rounds", metavar="N", type=positive, default=10, help="rounds (default: 10)")
    parser.add_argument(
        "--local_epochs", "--local-epochs", metavar="N", type=positive, default=1, help="epochs a round (default: 1)"
    )
    parser.add_argument(
        "--configs", metavar="FILES", default="train.json", help="files in the bundle's configs (default: train.json)"
    )
    parser.add_argument("--checkpoint", metavar="FILE", type=Path, help="weights to start from (default: random ones)")
    for name, default in (
        ("dataset_dir", "data/{site}"),
        ("manifest", "data/{site}.json"),
        ("output_dir", "output/federated/{site}"),
    ):
        parser.add_argument(
            f"--{name}",
            f"--{name.replace('_', '-')}",
            metavar="PATH",
            default=default,
            help=f"{name} of each site, to be corrected in sites.json (default: {default})",
        )


def _add_result(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="JOB", type=Path, help="folder of a federation, or a job that was downloaded")
    parser.add_argument("bundle", metavar="BUNDLE", help="bundle that was trained: name or folder")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the new bundle")
    parser.add_argument(
        "--incomplete", action="store_true", help="accept weights that not every site has scored at the end"
    )


def run(args: argparse.Namespace) -> int:
    """Write a federation, run it on this machine, or write its result as a bundle."""
    return {"new": _write, "simulate": _simulate, "result": _take}[args.verb](args)


def _write(args: argparse.Namespace) -> int:
    from pipeline.federated.sites import parse_names

    names = parse_names(args.sites)
    from pipeline.bundle.config_files import find_bundle
    from pipeline.federated.job import Plan, write_job

    plan = Plan(
        find_bundle(args.bundle, (_BUNDLES,)),
        tuple(names),
        args.rounds,
        args.local_epochs,
        tuple(name.strip() for name in args.configs.split(",")),
        args.checkpoint,
    )
    places = {key: getattr(args, key) for key in ("dataset_dir", "manifest", "output_dir")}
    job = write_job(plan, args.output, places)
    print(f"{args.output / 'sites.json'}: correct the paths of {', '.join(names)}")
    print(f"{job}: the NVFlare job, for the server")
    print(f"try it here: python -m pipeline federated simulate {shlex.quote(str(args.output))}")
    return 0


def _simulate(args: argparse.Namespace) -> int:
    from pipeline.federated.simulation import simulate

    result = simulate(args.folder)
    _print_result(result)
    bundle = result.federation["bundle"]
    command = f"federated result {shlex.quote(str(args.folder))} {bundle} -o {bundle}_federated"
    print(f"as a bundle: python -m pipeline {command}")
    return 0


def _take(args: argparse.Namespace) -> int:
    from pipeline.bundle.config_files import find_bundle
    from pipeline.federated.result import read_result, write_bundle

    result = read_result(args.folder)
    if result.missing and not args.incomplete:
        raise InputError(
            f"{args.folder}: the federation is not complete: no scores from {', '.join(result.missing)}; look for the "
            "reason in the logs, or take the weights as they are with --incomplete"
        )
    target = write_bundle(result, find_bundle(args.bundle, (_BUNDLES,)), args.output)
    _print_result(result)
    configs = [*result.federation["configs"][:1], "evaluate.json", *result.federation["configs"][1:]]
    files = ",".join(f"'{target}/configs/{name}'" for name in configs)
    print(f"{target}: the bundle")
    print(f'evaluate: python -m monai.bundle run --config_file "[{files}]" --bundle_root {shlex.quote(str(target))}')
    return 0


def _print_result(result: Result) -> None:
    name = result.key_metric
    for number, value in enumerate(result.rounds):
        start = "the first weights" if number == 0 else f"after round {number}"
        print(f"{start}: {name} {'not known' if value is None else f'{value:.4f}'}", file=sys.stderr)
    for site, scores in result.scores.items():
        if name in scores:
            print(f"{site}: {name} {scores[name]:.4f} ({int(scores.get('cases', 0))} cases)")
    if result.mean is not None:
        print(f"mean over all cases: {name} {result.mean:.4f} ({result.weights.name})")
