"""Tune a bundle's post-processing: predict the cases, choose the steps, write the override file and the ablation."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.bundle.config_files import TRAIN, find_output, read_config
from pipeline.bundle.configs import make_inert
from pipeline.datasets.digests import compute_sha256
from pipeline.issues import InputError
from pipeline.runs.metric_names import find_limits
from pipeline.runs.seen_cases import find_seen_cases
from pipeline.transforms import ScaleTemperature
from pipeline.tuning.ablation import Row, ablate
from pipeline.tuning.cases import LabelledCase, find_image_folder, load_cases
from pipeline.tuning.chain import Chain
from pipeline.tuning.choice import Choice, Judge, split_folds
from pipeline.tuning.predictions import PredictionStore
from pipeline.tuning.result import Result, check_output, list_commands, write_files
from pipeline.tuning.scores import ScoreTable
from pipeline.tuning.settings import TEMPERATURE, build_steps
from pipeline.tuning.temperature import Sample, TemperatureFit, fit_temperature, take_sample
from pipeline.tuning.tuning_options import Options
from pipeline.tuning.workflow import Workflow, is_default_root, open_workflow


def tune(options: Options) -> Result:
    """Choose the steps on validation cases, and write the override file and the ablation.

    Args:
        options: what is tuned, on which cases, and how thoroughly.

    Raises:
        InputError: a mistake that the user can correct, in one line.
    """
    output = options.output or options.bundle / "configs/postprocessing.json"
    check_output(output)
    device = {} if options.device is None else {"device": _open_device(options.device)}
    values = {"bundle_root": make_inert(str(options.bundle), "./"), **options.values, **device}
    workflow = open_workflow(options.bundle, options.configs, values)
    if TEMPERATURE in options.steps:
        _require_no_temperature(workflow)
    cases = load_cases(workflow)
    trained = find_output(options.bundle, read_config(options.bundle, TRAIN))
    store = PredictionStore(workflow, options.cache or trained / "tune")
    if not options.allow_any_split:
        _require_unseen(store.checkpoints, cases)
    network_seconds = store.complete(cases)
    fit = _fit_temperature(workflow, store, cases, options)
    rows, choices, seconds = _search(workflow, store, cases, options, 1.0 if fit is None else fit.value)
    kept = {TEMPERATURE: fit.value} if fit is not None and fit.is_kept else {}
    result = Result(
        metric=workflow.metric,
        rows=tuple(rows),
        choices=tuple(choices),
        override=kept | workflow.build_override(rows[-1].setting),
        seconds=seconds,
        network_seconds=statistics.median(network_seconds),
        facts=_list_facts(workflow, store, cases, options),
        temperature=fit,
        output=output,
        ablation=store.folder / "ablation.md",
        commands=tuple(
            list_commands(workflow, output, options.values, find_image_folder(cases), is_default_root(workflow))
        ),
    )
    write_files(result)
    return result


def _require_unseen(checkpoints: Sequence[Path], cases: Sequence[LabelledCase]) -> None:
    for checkpoint in checkpoints:
        seen = find_seen_cases(checkpoint, [case.item for case in cases])
        if seen:
            raise InputError(
                f"{seen}; name the weights of the fold that is tuned on, or its --fold {seen.fold} "
                "(to tune on them anyway: --i-know)"
            )


def _require_no_temperature(workflow: Workflow) -> None:
    known = workflow.parser.get(TEMPERATURE)
    if known != 1:
        said = "has none" if known is None else f"is {known} already"
        raise InputError(
            f"--steps {TEMPERATURE}: {TEMPERATURE!r} {said} in the configs of {workflow.bundle}; expected 1.0 in "
            "evaluate.json and inference.json, where ScaleTemperatured uses it, and no other file that sets it"
        )


def _fit_temperature(
    workflow: Workflow, store: PredictionStore, cases: Sequence[LabelledCase], options: Options
) -> TemperatureFit | None:
    """Return the temperature; None if it is not to be fitted."""
    if TEMPERATURE not in options.steps:
        return None
    by_id = {case.case_id: case for case in cases}

    def open_case(case_id: str) -> Sample:
        data = store.load(by_id[case_id])[0]
        return take_sample(data["pred"], data["label"])

    subjects = {case.case_id: case.subject for case in cases}
    return fit_temperature(list(subjects), open_case, subjects, resamples=options.resamples, seed=options.seed)


def _search(
    workflow: Workflow, store: PredictionStore, cases: Sequence[LabelledCase], options: Options, temperature: float
) -> tuple[list[Row], list[Choice], dict[str, float]]:
    """Return the rows of the ablation, the choices, and the seconds of each row by name."""
    chain = Chain(workflow)
    by_id = {case.case_id: case for case in cases}
    subjects = {case.case_id: case.subject for case in cases}
    scale = ScaleTemperature(temperature)

    def open_case(case_id: str) -> Any:
        data = store.load(by_id[case_id])[0]
        chain.start(data | {"pred": scale(data["pred"])})
        return lambda setting: chain.score(setting, case_id)

    steps = build_steps(options.steps, workflow.knobs, options.candidates, options.seed)
    if not steps and TEMPERATURE not in options.steps:
        raise InputError(f"{workflow.bundle} has no knobs for --steps {','.join(options.steps)}")
    scaled = "" if temperature == 1 else f"-{temperature:g}"
    path = store.folder / f"scores-{chain.digest()[:16]}{scaled}.jsonl"
    table = ScoreTable(path, {case.case_id: case.key for case in cases}, open_case)
    with table.show_progress() as announce:
        judge = Judge(table, subjects, options.resamples, options.seed, announce, find_limits(workflow.metric))
        rows, choices = ablate(judge, workflow.knobs, steps)
    seconds = {row.name: table.seconds(row.setting, list(subjects)) for row in rows}
    return rows, choices, seconds


def _list_facts(
    workflow: Workflow, store: PredictionStore, cases: Sequence[LabelledCase], options: Options
) -> dict[str, Any]:
    """Return the record of the cases, the weights and the config that the choice depends on."""
    parser = workflow.parser
    subjects = {case.case_id: case.subject for case in cases}
    return {
        "split": options.values.get("split", "val"),
        "fold": parser.get_parsed_content("fold") if "fold" in parser else None,
        "cases": len(cases),
        "subjects": len(set(subjects.values())),
        "ungrouped": sum(not case.is_grouped for case in cases),
        "folds": len(split_folds(subjects, options.seed)),
        "resamples": options.resamples,
        "seed": options.seed,
        "manifest_sha256": compute_sha256(parser.get_parsed_content("manifest")),
        "weights_sha256": store.weights_sha256,
        "config": workflow.digest(["validate#dataset#transform"], steps=workflow.steps)[:16],
    }


def _open_device(name: str) -> Any:
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device
