"""The command line ``pipeline NOUN VERB``: a table of commands, each run by a module of its name."""

import argparse
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from pipeline import __version__
from pipeline.commands.installation import describe_rivals
from pipeline.faults import describe_first, find_fault
from pipeline.issues import InputError, format_examples, join_lines

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


class Command(NamedTuple):
    """A command, run by the module ``pipeline.commands.<noun>_<verb>``.

    The module has ``add_arguments(parser)`` and ``run(args) -> exit code``. It is imported for ``--help``, so it must
    not import numpy, torch or monai outside of functions.
    """

    name: str  #: ``"noun verb"``, or one word
    help: str  #: one line
    examples: tuple[str, ...]  #: two lines to copy


# Each command's name and help, then its examples.
_TABLE = """
dataset build: write the manifest of a downloaded dataset
    dataset build lgg kaggle_3m -o lgg.json
    dataset build lgg kaggle_3m -o lgg.json --checksums SHA256SUMS
dataset split: split a manifest's subjects into test set, validation set and stratified folds
    dataset split lgg.json --folds 5 --seed 0
    dataset split lgg.json --test-list data_manifests/lgg_test.txt
dataset convert: write a dataset as Decathlon, nnU-Net v2 or COCO
    dataset convert lgg.json --dataset_dir kaggle_3m --to nnunet -o nnUNet_raw/Dataset101_LGG
    dataset convert lgg.json --dataset_dir kaggle_3m --to coco -o lgg_coco --fold 0 --link symlink
dataset phantom: write a small synthetic dataset with known truth
    dataset phantom lgg phantom
    dataset phantom lgg phantom20 --patients 20 --seed 1
dataset check: compare a dataset with its manifest: missing, changed, damaged files, wrong masks, leaks
    dataset check data_manifests/lgg.json --dataset_dir kaggle_3m
    dataset check data_manifests/lgg.json --dataset_dir kaggle_3m --deep --html check.html
dataset download: download a public dataset, resuming where it stopped, or print how to get it
    dataset download u373 -o data/u373
    dataset download --list
bundle list: print every bundle: data, network, parameters, weights, score, and the command that trains it
    bundle list
    bundle list --json
bundle new: make a bundle for your own dataset, from an existing bundle or from a template
    bundle new my_bundle --from isic_unet --manifest my.json --dataset_dir my_data
    bundle new organs --template volumes --manifest organs.json --labels liver,spleen --channels CT
bundle check: say what would fail when a bundle runs, before it runs and without data
    bundle check lgg_attunet
    bundle check lgg_attunet --config train losses --override loss=@losses#focal
bundle diff: show what differs between two bundles: network, loss, augmentation, data, weights
    bundle diff lgg_unet lgg_attunet
    bundle diff received.zip bundles/lgg_attunet --json
bundle format: format configs: whatever fits into 110 characters stands on one line
    bundle format my_bundle
    bundle format --check
bundle audit: look for what is dangerous or private in a bundle, without running any of it
    bundle audit lgg_unet
    bundle audit received.zip --json
bundle pack: write a bundle as one zip file with weights, package, digests, origin and a reference case
    bundle pack lgg_attunet -o lgg_attunet.zip
    bundle pack my_bundle -o my_bundle.zip --manifest my.json --sign key.pem
bundle verify: compare a packed bundle with its digests, and what it computes here with what it computed at home
    bundle verify received.zip
    bundle verify received --reference --key sender.pem
bundle unpack: audit a bundle's zip file, compare its digests, and unpack it: all of it or nothing
    bundle unpack received.zip received
    bundle unpack received.zip received --allow my_allow_list.json
bundle push: audit a packed bundle and put it into a Hugging Face repository or a folder; print its pinned place
    bundle push lgg_attunet.zip hf://my-lab/lgg_attunet --create
    bundle push lgg_attunet.zip /mnt/share
bundle pull: get a packed bundle from a hub, a web server or a folder: compare its digest, audit it, unpack it
    bundle pull hf://my-lab/lgg_attunet lgg_attunet --sha256 DIGEST
    bundle pull /mnt/share/lgg_attunet.zip lgg_attunet --sha256 DIGEST --key sender.pem
bundle run: audit a bundle that you received, and run it if nothing in it is dangerous or you have allowed it
    bundle run received.zip inference --input images --output_dir predictions
    bundle run received train --dataset_dir data --allow my_allow_list.json
predict: predict images, folders and DICOM series with a bundle; masks on the grid of each image, and a table of sizes
    predict lgg_attunet data/kaggle_3m/TCGA_CS_4941_19960909 -o masks --overlay
    predict hippocampus_segresnet scans series -o masks --format seg --keep-going
crossval: cross-validate a bundle: train and score every fold, merge the scores, make an ensemble
    crossval lgg_attunet --dataset_dir data/kaggle_3m
    crossval lgg_attunet --dataset_dir data/kaggle_3m --folds 1 --sweep learning_rate=0.001,0.0003
tune: tune post-processing on validation cases: threshold, CRF, morphology; steps that do not help stay off
    tune lgg_attunet --dataset_dir data/kaggle_3m
    tune lgg_attunet --dataset_dir data/kaggle_3m --split val --steps threshold,morphology
federated: train a bundle at several hospitals with NVFlare: only weights and scores travel
    federated new lgg_unet --sites north,south -o federation
    federated simulate federation
report: print the scores in an output folder, write them as a page with pictures, or compare runs
    report output/lgg_attunet/evaluate -o page.html
    report compare runs/unet runs/attunet -o comparison.html
"""
COMMANDS = tuple(
    Command(head.partition(": ")[0], head.partition(": ")[2], (first.strip(), second.strip()))
    for head, first, second in zip(*[iter(_TABLE.strip().splitlines())] * 3, strict=True)
)
_NOUNS = {
    "dataset": "downloads, manifests, splits, phantoms and checks of datasets",
    "bundle": "list bundles, make new ones for your own data, format their configs",
}


class _Parser(argparse.ArgumentParser):
    """A parser that suggests the nearest word for a misspelt one, and answers in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            raise argparse.ArgumentError(action, f"unknown {value!r}; {_suggest(str(value), known)}")

    def error(self, message: str) -> NoReturn:
        """End the program with one line, without the usage, which ``--help`` prints."""
        hint = "" if ";" in message else f"; see {self.prog} --help"
        self.exit(2, f"{self.prog}: error: {message}{hint}\n")

    def refuse_extras(self, extras: Sequence[str]) -> NoReturn:
        options = [option for action in self._actions for option in action.option_strings]
        first = extras[0].split("=")[0]
        hint = _suggest(first, options) if first.startswith("-") else "see --help"
        self.error(f"unknown argument {extras[0]!r}; {hint}")


def _suggest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, with each command's own parser in its default ``parser``."""
    debug = _Parser(add_help=False)
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    examples = [command.examples[0] for command in COMMANDS]
    root = _Parser(
        prog="pipeline",
        description="Datasets and reports around the bundles; python -m monai.bundle trains, evaluates and predicts.",
        epilog=format_examples(examples[2:4]),
        parents=[debug],
    )
    root.add_argument("--version", action="version", version=f"pipeline {__version__}")
    root.set_defaults(parser=root)
    nouns = root.add_subparsers(metavar="COMMAND")
    groups = {}
    for command in COMMANDS:
        noun, _, verb = command.name.partition(" ")
        if verb and noun not in groups:
            epilog = format_examples([line for line in examples if line.startswith(f"{noun} ")][-2:])
            group = nouns.add_parser(noun, help=_NOUNS[noun], description=_NOUNS[noun], epilog=epilog, parents=[debug])
            group.set_defaults(parser=group)
            groups[noun] = group.add_subparsers(metavar="COMMAND")
        _add_command(groups[noun] if verb else nouns, command, debug)
    return root


def _add_command(parent: Any, command: Command, debug: _Parser) -> None:
    verb = command.name.split()[-1]
    leaf = parent.add_parser(
        verb, help=command.help, description=command.help, epilog=format_examples(command.examples), parents=[debug]
    )
    module = importlib.import_module(f"pipeline.commands.{command.name.replace(' ', '_')}")
    module.add_arguments(leaf)
    leaf.set_defaults(parser=leaf, run=module.run)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words after the program's name; None takes those of the process.

    Returns:
        0: done; 1: findings or failure; 2: wrong usage (raised as `SystemExit` by argparse); 130: interrupted.
    """
    args, extras = build_parser().parse_known_args(argv)
    if extras and not hasattr(args, "words"):
        args.parser.refuse_extras(extras)
    args.words = extras  # of a command that takes any option
    if "" in (sys.argv[1:] if argv is None else argv):
        args.parser.error("an argument is empty; is a variable of the shell not set?")
    if not hasattr(args, "run"):
        args.parser.print_help(sys.stderr)
        return EXIT_USAGE
    try:
        warning = describe_rivals()
        if warning:
            print(warning, file=sys.stderr)
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader, for example `head`, has closed the pipe; closing stdout must not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except Exception as error:
        return _print_error(error, debug=hasattr(args, "debug"))
    return code


def _print_error(error: BaseException, *, debug: bool) -> int:
    """Print an error as one line, or with its traceback."""
    if debug:
        traceback.print_exception(error)
    text = join_lines(str(error))
    if isinstance(error, OSError) and error.filename and error.strerror:
        text = join_lines(f"{os.fsdecode(error.filename)}: {error.strerror.lower()}")
    if not isinstance(error, InputError | OSError):
        fault = find_fault(error)
        text = fault.what if fault else f"{describe_first(error)}; this is a bug, --debug shows where"
    print(f"error: {text}", file=sys.stderr)
    return EXIT_FAILURE
