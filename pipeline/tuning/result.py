"""The result of a tuning: a table, JSON, and the override file with the steps that are on."""

import json
import os
import shlex
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import write_atomically
from pipeline.bundle.config_files import EVALUATE, INFERENCE, TRAIN, read_config
from pipeline.bundle.configs import make_inert
from pipeline.bundle.formatting import format_config
from pipeline.bundle.overview import quote_files, quote_path
from pipeline.issues import InputError
from pipeline.runs.ablation_record import ABLATION, digest_steps
from pipeline.statistics.paired import METHOD
from pipeline.tuning.ablation import Row
from pipeline.tuning.choice import Choice
from pipeline.tuning.settings import KNOBS, TEMPERATURE
from pipeline.tuning.temperature import TemperatureFit
from pipeline.tuning.wording import (
    describe_choice,
    describe_temperature,
    dump_gain,
    dump_temperature,
    format_gain,
    to_number,
)
from pipeline.tuning.workflow import REFINE, Workflow

_WIDTH = 100
# With fewer subjects not even gains in all of them are significant: 2 * 0.5**5 > 0.05, by the sign test.
_FEW = 6
_HEADER = ("post-processing", "on", "over", "score", "gain here", "held-out", "95 % interval", "s/case")


@dataclass(frozen=True)
class Result:
    """The result of a tuning."""

    metric: str  #: name of the key metric
    rows: tuple[Row, ...]  #: the ablation; the last row has the setting that is written
    choices: tuple[Choice, ...]  #: one per step
    override: Mapping[str, Any]  #: the config that is written: the steps that are on and their knobs
    seconds: Mapping[str, float]  #: of post-processing per case, by name of the row
    network_seconds: float  #: of the network per case
    facts: Mapping[str, Any]  #: the record of cases, weights and config
    output: Path  #: the override file
    ablation: Path  #: the ablation as Markdown; as JSON beside it
    commands: tuple[str, ...]  #: to evaluate and to predict with the file
    temperature: TemperatureFit | None = None  #: the temperature, if one was fitted


def format_table(result: Result) -> list[str]:
    """Return the ablation (at most 100 columns), one line per step, the legend, and the files and commands."""
    rows = [_HEADER, *(_format_row(result, row) for row in result.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    facts = result.facts
    return [
        f"{result.metric}, mean over {_count(facts)}, split {facts['split']}",
        "",
        *lines,
        "",
        *(line for choice in result.choices for line in _wrap(describe_choice(choice))),
        *(_wrap(describe_temperature(result.temperature)) if result.temperature else []),
        *_warn_of_few(facts["subjects"]),
        *_warn_of_ungrouped(facts["ungrouped"]),
        "",
        "gain here: on the cases that chose the values. held-out: gain on subjects that did not choose them",
        f"({facts['folds']} folds); interval: by subject, {METHOD},",
        f"{facts['resamples']} resamples, seed {facts['seed']}; none where too few subjects differ.",
        "on: yes if the gain is certain, however small. A larger gain that is not certain stays off.",
        "kept so far: the steps above that are on. all: every step with its best value, on or off.",
        f"s/case: median of these steps; the network takes {result.network_seconds:.2g} s.",
        "",
        f"written: {result.output}",
        f"ablation: {result.ablation}",
        *(f"{word:<10}{line}" for word, line in zip(("evaluate:", "predict:"), result.commands, strict=True)),
    ]


def _count(facts: Mapping[str, Any]) -> str:
    unknown = facts["ungrouped"]
    return f"{facts['cases']} cases of {facts['subjects']} subjects" + (f", {unknown} unknown" if unknown else "")


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _warn_of_few(subjects: int) -> list[str]:
    if not 1 < subjects < _FEW:
        return []
    return [f"note: {subjects} subjects are few: not even a gain in each is certain, so use this as a trial only"]


def _warn_of_ungrouped(cases: int) -> list[str]:
    if not cases:
        return []
    return _wrap(
        f"note: {cases} cases have no subject in the manifest, so each counts as a separate one; if several belong to "
        "one patient, the intervals are too narrow"
    )


def format_markdown(result: Result) -> str:
    """Return the ablation as a table for a model card."""
    rows = [_HEADER, ("---",) * len(_HEADER), *(_format_row(result, row) for row in result.rows)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{_describe(result)}\n"


def to_dict(result: Result) -> dict[str, Any]:
    """Return the result for JSON."""
    return {
        "metric": result.metric,
        **result.facts,
        "network_seconds": round(result.network_seconds, 4),
        "rows": [
            {
                "name": row.name,
                "over": row.over or None,
                "score": to_number(row.score),
                "in_sample_gain": to_number(row.in_sample),
                "gain": dump_gain(row.gain),
                "seconds": round(result.seconds[row.name], 4),
                "setting": row.setting,
            }
            for row in result.rows
        ],
        "steps": [
            {
                "name": choice.step.name,
                "on": choice.is_kept,
                "in_sample_gain": to_number(choice.in_sample),
                "gain": dump_gain(choice.gain),
                "gain_on_top_of_others": dump_gain(choice.on_top),
                "tried": choice.tried,
                "p_by_chance": round(choice.by_chance, 5),
                "chosen": {knob: choice.chosen[knob] for knob in choice.step.knobs},
            }
            for choice in result.choices
        ],
        "temperature": dump_temperature(result.temperature),
        "written": result.rows[-1].setting,
        "output": str(result.output),
        "commands": list(result.commands),
    }


def dump_ablation(result: Result) -> dict[str, Any]:
    """Return what the override file carries into the record of a run, for its page; no paths."""
    kept = {key: value for key, value in to_dict(result).items() if key not in ("output", "commands", "written")}
    values = {key: value for key, value in result.override.items() if key != REFINE}
    return {**kept, "values": values, "refine_digest": digest_steps(result.override[REFINE])}


def check_output(path: Path) -> None:
    """Refuse to overwrite a file that is not an override of post-processing, before anything is computed.

    Raises:
        InputError: the name does not end in .json, the file is another one, or the folder is not writable.
    """
    if path.suffix != ".json":
        raise InputError(f"--output {path}: expected a name that ends in .json")
    if path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = None
        if not isinstance(known, dict) or set(known) - {*KNOBS, TEMPERATURE, REFINE, ABLATION, "_desc_"}:
            raise InputError(
                f"--output {path}: another config has this name and is not overwritten; choose another name"
            )
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not os.access(folder, os.W_OK):
        raise InputError(f"--output {path}: {folder} is not writable; choose another folder")


def write_files(result: Result) -> None:
    """Write the override file, and the ablation as JSON and Markdown."""
    override = {"_desc_": make_inert(_describe(result)), **result.override, ABLATION: make_inert(dump_ablation(result))}
    texts = {
        result.output: format_config(override),
        result.ablation.with_suffix(".json"): format_config(to_dict(result)),
        result.ablation: format_markdown(result),
    }
    for path, text in texts.items():
        with write_atomically(path) as stream:
            stream.write(text)


def list_commands(
    workflow: Workflow, output: Path, values: Mapping[str, Any], images: Path, default_root: bool
) -> list[str]:
    """Return the commands that evaluate and predict with the override file.

    Args:
        workflow: the bundle's evaluation.
        output: the file.
        values: values by id that were given on the command line.
        images: folder of images to predict, without masks that could be taken for images.
        default_root: whether the configs find the bundle without ``--bundle_root``.
    """
    bundle = workflow.bundle
    commands = []
    for files in ((TRAIN, EVALUATE), (INFERENCE,)):
        paths = [*(bundle / "configs" / name for name in files), *workflow.extras, output]
        words = ["python -m monai.bundle run --config_file", quote_files(paths)]
        words += [] if default_root else ["--bundle_root", quote_path(bundle)]
        known = read_config(bundle, files[-1])
        for name, value in values.items():
            root = name.split("#")[0]
            # The override file decides on the steps and their knobs, and evaluate.json scores split val anyway.
            if root in {*KNOBS, TEMPERATURE, REFINE} or (name, value) == ("split", "val"):
                continue
            if len(files) > 1:
                words += [f"--{shlex.quote(name)}", _quote(value)]
            elif name == "dataset_dir":
                words += ["--input", quote_path(images)]
            elif root in known:
                words += [f"--{shlex.quote(name)}", _quote(value)]
        commands.append(" ".join(words))
    return commands


def _quote(value: Any) -> str:
    return shlex.quote(value if isinstance(value, str) else json.dumps(value))


def _format_row(result: Result, row: Row) -> tuple[str, ...]:
    gain = row.gain
    has_interval = gain is not None and gain.low is not None
    kept = {choice.step.name: "yes" if choice.is_kept else "no" for choice in result.choices}
    return (
        row.name,
        kept.get(row.name, "-"),
        row.over or "-",
        f"{row.score:.4f}",
        "-" if row.in_sample is None else format_gain(row.in_sample),
        "-" if gain is None else format_gain(gain.mean),
        f"{format_gain(gain.low)} to {format_gain(gain.high)}" if gain is not None and has_interval else "-",
        f"{result.seconds[row.name]:.3g}",
    )


def _describe(result: Result) -> str:
    """Return one text about the origin of the values."""
    facts = result.facts
    first, last = result.rows[0], result.rows[-1]
    where = f"split {facts['split']}" + (f", fold {facts['fold']}" if facts["fold"] is not None else "")
    return (
        f"Tuned by `pipeline tune` on {_count(facts)} ({where}; manifest sha256 {facts['manifest_sha256'][:12]}, "
        f"weights sha256 {facts['weights_sha256'][:12]}): {result.metric} {first.score:.4f} {first.name}, "
        f"{last.score:.4f} with these values. "
        + "; ".join(
            [
                *map(describe_choice, result.choices),
                *([describe_temperature(result.temperature)] if result.temperature else []),
            ]
        )
        + ". Gains are held-out, with paired 95 % intervals by subject."
    )
