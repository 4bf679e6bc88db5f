"""The model card of a new bundle: every heading with what is known; what is not measured says so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipeline.bundle.config_files import INFERENCE, TRAIN
from pipeline.bundle.configs import Config, read_target
from pipeline.bundle.draft import Draft
from pipeline.bundle.edits.paths import locate_manifest
from pipeline.bundle.metadata import describe_files, join_names, name_network

_UNMEASURED = "not measured yet"
TTA, ENSEMBLE, PARALLEL = "tta.json", "ensemble.json", "multi_gpu_train.json"


def write_card(draft: Draft, parameters: int | None, commands: list[str]) -> str:
    """Return the text of ``docs/README.md``.

    Args:
        draft: with its configs edited.
        parameters: number of the network's parameters, None if it is not known.
        commands: that train, evaluate and predict.
    """
    manifest = draft.dataset.manifest
    size = "" if parameters is None else f" ({parameters:,} parameters)"
    sections = {
        f"# {draft.name}: {join_names(draft.dataset.labels[1:])} in {manifest.name}": [
            f"{name_network(draft)}{size}. The configs were made from the bundle `{draft.source.name}`"
            f" {draft.metadata.get('version', '')}; its weights were not taken over.".replace(" ;", ";"),
            "",
            "**Research only.** Not a medical device; not for diagnosis or treatment.",
        ],
        "## Data": list(_describe_data(draft)),
        "## Preprocessing": list(_list_steps(draft.train)),
        "## Training": list(_describe_training(draft)),
        "## Threshold": list(_describe_threshold(draft)),
        "## Post-processing": list(_describe_postprocessing(draft)),
        "## Performance": [
            f"Validation score: {_UNMEASURED}. The training writes it to `metrics.csv` in its output folder;"
            " `python -m pipeline report` prints the mean with its 95 % interval.",
            "",
            f"Test score: {_UNMEASURED}.",
        ],
        "## Test-time augmentation and ensembles": list(_describe_averages(draft)),
        "## Several GPUs": list(_describe_parallel(draft)),
        "## Limits": [
            f"* Trained on no data yet; how it does on data of other sources is {_UNMEASURED}.",
            f"* The settings are those that suited the data of `{draft.source.name}`; none was tuned for this dataset.",
        ],
        "## Commands": ["```", *commands, "```"],
        "## References": [
            *(f"* {text}" for text in manifest.citations),
            f"* Of the network and the training: the model card of the bundle `{draft.source.name}`.",
        ],
        "## Licence": ["Configs: Apache-2.0. Data: see [data_license.txt](data_license.txt)."],
    }
    blocks = [f"{heading}\n\n" + "\n".join(lines) for heading, lines in sections.items() if lines]
    return "\n\n".join(blocks) + "\n"


def write_data_license(draft: Draft) -> str:
    """Return the text of ``docs/data_license.txt``."""
    manifest = draft.dataset.manifest
    cite = ["", "Please cite:", *manifest.citations] if manifest.citations else []
    lines = [
        f"{manifest.name}, {manifest.source or 'source not told by the files'}",
        "",
        "The data are not part of this bundle; weights that are trained on them are under their terms:",
        "",
        f"- {manifest.licence or 'not told by the files'}",
        *cite,
    ]
    return "\n".join(lines) + "\n"


def _describe_data(draft: Draft) -> Iterator[str]:
    manifest, dataset = draft.dataset.manifest, draft.dataset
    source = manifest.source or "not told by the files"
    yield f"Dataset `{manifest.name}`, source: {source}. Terms: [data_license.txt](data_license.txt)."
    yield ""
    yield f"* **Files**: {describe_files(draft)}; channels: {', '.join(dataset.channels)}."
    labels = ", ".join(f"{number} {name}" for number, name in enumerate(dataset.labels))
    yield f"* **Labels**: {labels}."
    counts = ", ".join(f"{len(cases)} {split}" for split, cases in dataset.parts.items() if cases)
    folds = len({case.fold for case in manifest.cases if case.fold is not None})
    yield f"* **Split** (`{locate_manifest(draft).name}`): {counts}" + (
        f"; {folds} folds, validation is fold {dataset.fold}." if folds else "."
    )
    named = sum(bool(case.subject) for case in manifest.cases)
    if named < len(manifest.cases):
        yield "* **Subjects** are not known for all cases: images of one patient may lie on both sides of the split."


def _list_steps(train: Config) -> Iterator[str]:
    """Yield a line a transform, with its settings."""
    for step in train["train"].get("deterministic_transforms", []):
        if not read_target(step):
            continue
        keys = step.get("keys", [])
        on = " and ".join([keys] if isinstance(keys, str) else keys)
        shown = {key: value for key, value in step.items() if key[0] != "_" and key != "keys"}
        settings = ", ".join(f"{key} {_show(value, train)}" for key, value in shown.items())
        yield f"* `{read_target(step)}` ({on})" + (f": {settings}" if settings else "")


def _show(value: Any, train: Config) -> str:
    """Return a setting in words; a knob by its value."""
    if isinstance(value, str) and value.startswith("@") and value[1:] in train:
        return _show(train[value[1:]], train)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")


def _describe_training(draft: Draft) -> Iterator[str]:
    train = draft.train
    augmentations = Counter(
        read_target(step)
        for step in train["train"].get("random_transforms", [])
        if read_target(step).startswith("Rand")
    )
    named = [name if number == 1 else f"{name} ({number} times)" for name, number in augmentations.items()]
    loss = train.get("loss")
    rows = {
        "augmentation": ", ".join(named) or "none",
        "loss": f"`{loss}`" if isinstance(loss, str) else read_target(loss) or "see `train.json`",
        "optimiser": f"{read_target(train.get('optimizer'))}, learning rate {train.get('learning_rate')}",
        "schedule": read_target(train.get("lr_scheduler")) or "constant",
        "length": f"{train.get('max_epochs')} epochs, batch size {train.get('batch_size')}",
    }
    yield "| what | how |"
    yield "|---|---|"
    yield from (f"| {what} | {how} |" for what, how in rows.items())


def _describe_threshold(draft: Draft) -> Iterator[str]:
    if draft.configs.find("ThresholdSearch"):
        yield (
            f"Masks are cut at {draft.train.get('threshold')} unless told otherwise. After every validation that is the"
            " best so far, the threshold that suits the validation cases best is written to `threshold.json` in the"
            " training's output folder: an override that goes last, behind `inference.json`, or behind `train.json` and"
            " `evaluate.json`."
        )


def _describe_postprocessing(draft: Draft) -> Iterator[str]:
    inference = draft.configs.files[INFERENCE]
    steps = inference.get("postprocessing", {}).get("transforms", [])
    switched = {
        str(step["_disabled_"])[1:]: _name_step(step) for step in steps if str(step.get("_disabled_", ""))[:1] == "@"
    }
    if not switched:
        return
    yield "Steps from probabilities to masks, in this order, in `evaluate.json` and `inference.json` alike:"
    yield ""
    for knob, target in switched.items():
        state, other, value = ("off", "on", "false") if inference.get(knob) is True else ("on", "off", "true")
        yield f"* `{target}`: {state}; {other} with `--{knob} {value}`"
    yield ""
    yield f"Whether a step gains is {_UNMEASURED}; `python -m pipeline tune` finds out on the validation cases."


def _name_step(step: Config) -> str:
    """Return what a step does: of one that works label by label or slice by slice, what it does to each."""
    inner = step.get("transform")
    return f"{read_target(step)} of {_name_step(inner)}" if isinstance(inner, dict) else read_target(step)


def _describe_averages(draft: Draft) -> Iterator[str]:
    if TTA in draft.configs.files:
        yield (
            "`tta.json` behind `inference.json` takes the mean of mirrored copies; whether it gains is "
            + _UNMEASURED
            + "."
        )
    if ENSEMBLE in draft.configs.files:
        yield "`ensemble.json` behind `inference.json` takes the mean of the probabilities of several checkpoints:"
        root = draft.train["bundle_root"]
        files = f"\"['{root}/configs/{INFERENCE}','{root}/configs/{ENSEMBLE}']\""
        checkpoints = "\"['first/model.pt','second/model.pt']\""
        yield from ("", "```", f"python -m monai.bundle run --config_file {files} --checkpoints {checkpoints}", "```")


def _describe_parallel(draft: Draft) -> Iterator[str]:
    if PARALLEL in draft.configs.files:
        root = draft.train["bundle_root"]
        files = f"\"['{root}/configs/{TRAIN}','{root}/configs/{PARALLEL}']\""
        yield f"`{PARALLEL}` behind `{TRAIN}`, here with two processes; each takes its share of the batch:"
        run = "torchrun --standalone --nproc_per_node 2 -m monai.bundle run"
        yield from ("", "```", f"{run} --config_file {files}", "```")
