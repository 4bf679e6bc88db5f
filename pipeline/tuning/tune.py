"""From the command's arguments to the file of winning values."""

from __future__ import annotations

import argparse
import ast
import json
import statistics
from collections.abc import Sequence
from typing import Any

from pipeline.bundle.config_files import BUNDLES, find_bundle, suggest_name
from pipeline.datasets.digests import compute_sha256
from pipeline.handlers.training.threshold_search import is_sealed
from pipeline.issues import InputError
from pipeline.tuning.cases import LabelledCase, load_cases
from pipeline.tuning.chain import Chain
from pipeline.tuning.choice import Choice, Judge, Row
from pipeline.tuning.predictions import PredictionStore
from pipeline.tuning.result import Result, check_output, format_table, list_commands, to_dict, write_files
from pipeline.tuning.scores import ScoreTable
from pipeline.tuning.settings import STEPS, Setting, Step, build_steps, switch_off
from pipeline.tuning.workflow import Workflow, is_default_root, open_workflow

_ALL = "all"  # every case of a manifest, test cases too


def tune(args: argparse.Namespace) -> int:
    """Run the command.

    Args:
        args: as `pipeline.commands.tune` declares them.

    Returns:
        Exit code 0.

    Raises:
        InputError: what the user can put right, in one line.
    """
    names = read_steps(args.steps)
    check_split(args.split, args.i_know)
    if args.candidates < 1 or args.resamples < 1:
        raise InputError("--candidates and --resamples expect a number from 1")
    bundle = find_bundle(args.bundle, [BUNDLES])
    output = args.output or bundle / "configs/postprocessing.json"
    check_output(output)
    options = read_options(args)
    overrides = {"bundle_root": str(bundle), **options, **_choose_device(args.device)}
    workflow = open_workflow(bundle, args.config_file, overrides)
    cases = load_cases(workflow)
    store = PredictionStore(workflow, args.cache or bundle / "output/tune")
    network_seconds = store.complete(cases)
    result = search(workflow, store, cases, names, args, statistics.median(network_seconds))
    write_files(result, output, store.folder)
    extras = workflow.files[2:]
    commands = list_commands(bundle, output, extras, options, is_default_root(workflow))
    if args.json:
        print(json.dumps({**to_dict(result), "output": str(output), "commands": commands}, indent=2))
    else:
        print("\n".join([*format_table(result), "", f"written: {output}", f"ablation: {store.folder / 'ablation.md'}"]))
        print("\n".join(f"{word:<10}{line}" for word, line in zip(("evaluate:", "predict:"), commands, strict=True)))
    return 0


def search(
    workflow: Workflow,
    store: PredictionStore,
    cases: Sequence[LabelledCase],
    names: Sequence[str],
    args: argparse.Namespace,
    network_seconds: float,
) -> Result:
    """Choose the steps of post-processing on predicted cases."""
    chain = Chain(workflow)
    by_id = {case.case_id: case for case in cases}
    subjects = {case.case_id: case.subject for case in cases}

    def open_case(case_id: str) -> Any:
        chain.start(store.load(by_id[case_id])[0])
        return lambda setting: chain.score(setting, case_id)

    table = ScoreTable(
        store.folder / f"scores-{chain.digest()[:16]}.jsonl", {case.case_id: case.key for case in cases}, open_case
    )
    steps = build_steps(names, workflow.knobs, args.candidates, args.seed)
    if not steps:
        raise InputError(f"{workflow.bundle} has no knob of {', '.join(names)}")
    with table.show_progress() as announce:
        judge = Judge(table, subjects, args.resamples, args.seed, announce)
        rows, choices, written = _ablate(judge, workflow.knobs, steps)
        seconds = {row.name: table.seconds(row.setting, list(subjects)) for row in rows}
    facts = {
        "split": args.split,
        "fold": workflow.parser.get_parsed_content("fold") if "fold" in workflow.parser else None,
        "cases": len(cases),
        "subjects": len(set(subjects.values())),
        "ungrouped": sum(not case.is_grouped for case in cases),
        "folds": len(judge.folds),
        "resamples": args.resamples,
        "seed": args.seed,
        "manifest_sha256": compute_sha256(workflow.parser.get_parsed_content("manifest")),
        "weights_sha256": store.weights_sha256,
        "config": workflow.digest(["validate#dataset#transform"], tail=workflow.tail)[:16],
    }
    return Result(workflow.metric, tuple(rows), tuple(choices), written, seconds, network_seconds, facts)


def _ablate(judge: Judge, knobs: Setting, steps: Sequence[Step]) -> tuple[list[Row], list[Choice], Setting]:
    """Return the lines of the ablation, the choices, and the setting that is written."""
    raw = switch_off(knobs, list(STEPS))
    start = switch_off(
        knobs, list(dict.fromkeys(step.group for step in steps))
    )  # steps that are not tuned stay as the bundle has them
    rows = [Row("raw", raw, judge.mean(raw))]
    if start != raw:
        rows.append(judge.compare("others as shipped", start, raw, "raw"))
    base_name = rows[-1].name
    if knobs not in (raw, start):
        rows.append(judge.compare("as shipped", dict(knobs), start, base_name))
    choices = judge.choose_all(steps, start)
    is_on = False
    for choice in choices:
        over = "kept so far" if is_on else base_name
        score = judge.mean(choice.chosen)
        rows.append(Row(choice.step.name, choice.chosen, score, over, choice.in_sample, choice.gain))
        is_on = is_on or choice.is_kept
    for group in STEPS:
        members = [choice for choice in choices if choice.step.group == group]
        if len(members) > 1:
            over = base_name if members[0].base == start else "kept before"
            rows.append(judge.combine(f"{group}, all", members, members[0].base, over))
    rows.append(judge.combine("all steps", choices, start, base_name))
    kept = [choice for choice in choices if choice.is_kept]
    rows.append(judge.combine("written", kept, start, base_name))
    return rows, choices, rows[-1].setting


def check_split(split: str, is_allowed: bool) -> None:
    """Refuse cases that post-processing must not be tuned on.

    Raises:
        InputError: ``split`` is a test or training split, or all cases.
    """
    if not is_allowed and (is_sealed(split) or split == _ALL):
        raise InputError(
            f"post-processing is tuned on validation cases only, not on split {split!r}; tune with --split val, "
            "then score the test cases once with the file that it writes (--i-know goes on all the same)"
        )


def read_steps(text: str) -> list[str]:
    """Return the names of steps in a text with commas between them.

    Raises:
        InputError: one is unknown.

    Example:
        >>> read_steps("crf, threshold")
        ['crf', 'threshold']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in STEPS:
            raise InputError(f"--steps: unknown step {name!r}; {suggest_name(name, STEPS)}")
    if not names:
        raise InputError(f"--steps names none; known: {', '.join(STEPS)}")
    return names


def read_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values by id of a command's options, and of ``--set``.

    Raises:
        InputError: a word of ``--set`` is no ``ID=VALUE``.
    """
    given = {
        "dataset_dir": args.dataset_dir,
        "manifest": args.manifest,
        "split": args.split,
        "fold": None if args.fold is None else read_value(args.fold),
        "checkpoint": args.checkpoint,
    }
    options = {name: value for name, value in given.items() if value is not None}
    for word in args.set:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set expects ID=VALUE, got {word!r}; for example --set image_size=[128,128]")
        options[name.strip()] = read_value(value)
    return options


def read_value(text: str) -> Any:
    """Return a value of the command line as JSON or Python would read it, else as text.

    Example:
        >>> [read_value(text) for text in ("3", "true", "[1, 2]", "None", "@losses#dice")]
        [3, True, [1, 2], None, '@losses#dice']
    """
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return text


def _choose_device(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return {"device": device}
