"""The model card of a new bundle: every heading of the suite, with facts, or a note that nothing was measured yet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pipeline.bundle.config_files import EVALUATE, INFERENCE, TRAIN
from pipeline.bundle.configs import Config, find_blocks, read_target
from pipeline.bundle.draft import Draft
from pipeline.bundle.metadata import UNKNOWN, describe_files, join_names, name_network
from pipeline.bundle.recipe import PARALLEL
from pipeline.bundle.render import ENSEMBLE, REFINE, TTA

_UNMEASURED = "not measured yet"
Configs = dict[str, Config]


def write_card(draft: Draft, configs: Configs, parameters: int | None, commands: list[str]) -> str:
    """Return the text of ``docs/README.md``.

    Args:
        draft: the bundle.
        configs: its configs by name.
        parameters: number of the network's parameters, None if it is not known.
        commands: that train, evaluate and predict.
    """
    manifest = draft.dataset.manifest
    size = "" if parameters is None else f" ({parameters:,} parameters)"
    sections = {
        f"# {draft.name}: {join_names(draft.dataset.labels[1:])} in {manifest.name}": [
            f"{name_network(configs)}{size}. The configs were made from {draft.recipe.origin}, without its weights.",
            "",
            "**Research only.** Not a medical device; not for diagnosis or treatment.",
        ],
        "## Data": list(_describe_data(draft)),
        "## Preprocessing": list(_list_steps(configs[TRAIN])),
        "## Training": list(_describe_training(configs[TRAIN])),
        "## Threshold": list(_describe_threshold(configs)),
        "## Post-processing": list(_describe_postprocessing(configs, draft.bundle_root)),
        "## Performance": [
            f"Validation score: {_UNMEASURED}. The training writes it to `metrics.csv` in its output folder;"
            " `python -m pipeline report` prints the mean with its 95 % interval.",
            "",
            f"Test score: {_UNMEASURED}.",
        ],
        "## Test-time augmentation and ensembles": list(_describe_averages(draft.bundle_root)),
        "## Several GPUs": list(_describe_parallel(draft.bundle_root)),
        "## Limits": [
            f"* Not trained yet; performance on data from other sources is {_UNMEASURED}.",
            f"* The settings are those of {draft.recipe.origin}; none was tuned for this dataset.",
        ],
        "## Commands": ["```", *commands, "```"],
        "## References": [
            *(f"* {text}" for text in manifest.citations),
            f"* For the network and the training: the model card of {draft.recipe.title}.",
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
        f"{manifest.name}, {manifest.source or UNKNOWN}",
        "",
        "The data are not part of this bundle; weights that are trained on them are under their terms:",
        "",
        f"- {manifest.licence or UNKNOWN}",
        *cite,
    ]
    return "\n".join(lines) + "\n"


def _describe_data(draft: Draft) -> Iterator[str]:
    manifest, dataset = draft.dataset.manifest, draft.dataset
    source = manifest.source or UNKNOWN
    yield f"Dataset `{manifest.name}`, source: {source}. Terms: [data_license.txt](data_license.txt)."
    yield ""
    yield f"* **Files**: {describe_files(draft)}; channels: {', '.join(dataset.channels)}."
    labels = ", ".join(f"{number} {name}" for number, name in enumerate(dataset.labels))
    yield f"* **Labels**: {labels}."
    counts = ", ".join(f"{len(cases)} {split}" for split, cases in dataset.parts.items() if cases)
    folds = len({case.fold for case in manifest.cases if case.fold is not None})
    yield f"* **Split** (`{draft.locate_manifest().name}`): {counts}" + (
        f"; {folds} folds, validation is fold {dataset.fold}." if folds else "."
    )
    named = sum(bool(case.subject) for case in manifest.cases)
    if named < len(manifest.cases):
        yield "* **Subjects** are not known for all cases: images of one patient may be in two parts of the split."


def _list_steps(train: Config) -> Iterator[str]:
    """Yield one line per transform, with its settings."""
    for step in train["train"].get("deterministic_transforms", []):
        if not read_target(step):
            continue
        keys = step.get("keys", [])
        on = " and ".join([keys] if isinstance(keys, str) else keys)
        shown = {key: value for key, value in step.items() if key[0] != "_" and key != "keys"}
        settings = ", ".join(f"{key} {_show(value, train)}" for key, value in shown.items())
        yield f"* `{read_target(step)}` ({on})" + (f": {settings}" if settings else "")


def _show(value: Any, train: Config) -> str:
    """Return a setting in words; a reference as its value."""
    if isinstance(value, str) and value.startswith("@") and value[1:] in train:
        return _show(train[value[1:]], train)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")


def _describe_training(train: Config) -> Iterator[str]:
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
    yield "| setting | value |"
    yield "|---|---|"
    yield from (f"| {what} | {how} |" for what, how in rows.items())


def _describe_threshold(configs: Configs) -> Iterator[str]:
    if any(find_blocks(configs[TRAIN], "ThresholdSearch")):
        yield (
            f"The default threshold is {configs[TRAIN]['threshold']}. After every validation that is the best so far,"
            " the threshold with the best score on the validation cases is written to `threshold.json` in the output"
            " folder of the training: an override that goes last, after `inference.json`, or after `train.json` and"
            " `evaluate.json`."
        )


def _describe_postprocessing(configs: Configs, root: str) -> Iterator[str]:
    refine = configs[REFINE]
    yield f"`{REFINE}` after `{INFERENCE}`, or after `{TRAIN}` and `{EVALUATE}`, has all steps, in this order:"
    yield ""
    for step in refine["refine"]:
        knob = str(step.get("_disabled_", ""))[1:]
        if knob:
            yield f"* `{_name_step(step)}`: off; on with `--{knob} false`"
    files = f"\"['{root}/configs/{INFERENCE}','{root}/configs/{REFINE}']\""
    yield from ("", "```", f"python -m monai.bundle run --config_file {files} --skip_crf false", "```", "")
    yield f"Whether a step helps is {_UNMEASURED}; `python -m pipeline tune` tests it on the validation cases."


def _name_step(step: Config) -> str:
    """Return the class of a step; for one that works label by label or slice by slice, also the inner step."""
    inner = step.get("transform")
    return f"{read_target(step)} of {_name_step(inner)}" if isinstance(inner, dict) else read_target(step)


def _describe_averages(root: str) -> Iterator[str]:
    files = f"\"['{root}/configs/{INFERENCE}','{root}/configs/{ENSEMBLE}']\""
    checkpoints = "\"['first/model.pt','second/model.pt']\""
    yield f"`{TTA}` after `{INFERENCE}` takes the mean of mirrored copies; whether it helps is {_UNMEASURED}."
    yield f"`{ENSEMBLE}` after `{INFERENCE}` takes the mean of the probabilities of several checkpoints:"
    yield from ("", "```", f"python -m monai.bundle run --config_file {files} --checkpoints {checkpoints}", "```")


def _describe_parallel(root: str) -> Iterator[str]:
    files = f"\"['{root}/configs/{TRAIN}','{root}/configs/{PARALLEL}']\""
    yield f"`{PARALLEL}` after `{TRAIN}`, here with two processes; each takes its share of the batch:"
    run = "torchrun --standalone --nproc_per_node 2 -m monai.bundle run"
    yield from ("", "```", f"{run} --config_file {files}", "```")
