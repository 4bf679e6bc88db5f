"""Check a bundle as a whole: files, metadata, configs, network, and that training and inference agree."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.bundle.audit.engine import audit_configs
from pipeline.bundle.audit.finding import COMMAND_LINE, Finding
from pipeline.bundle.check.bundle_files import check_files
from pipeline.bundle.check.drift import check_drift
from pipeline.bundle.check.metadata import check_metadata, check_versions
from pipeline.bundle.check.network import check_network
from pipeline.bundle.check.whole_configs import Configs, check_config, check_override
from pipeline.bundle.config_files import EVALUATE, INFERENCE, METADATA, TRAIN, list_configs, read_config, suggest_name
from pipeline.bundle.configs import Config, find_references, list_texts
from pipeline.bundle.monai_import import import_monai
from pipeline.bundle.overrides.ids import MISSING, look_up
from pipeline.bundle.overrides.overrides import Overrides
from pipeline.issues import InputError, Issue

# Codes of the audit for what `check_config` says with a suggestion.
_FOUND_HERE = ("target-unknown", "expression-syntax")
# Of classes that are none of the packages that bundles use; to look one up would import its module.
_FOREIGN = ("target-denied", "target-outside", "target-module", "bundle-code")


def check_bundle(
    bundle: Path, names: Sequence[str] = (), values: Mapping[str, Any] | None = None, *, audit: bool = True
) -> list[Issue]:
    """Return what would fail when a bundle runs; no data are read, and nothing is built that its audit refuses.

    Args:
        bundle: folder of the bundle.
        names: configs to check, with or without ``.json``; the later ones change the earlier. By default all.
        values: overrides by id, as the command line of ``monai.bundle run`` would get them.
        audit: also name what the audit of a receiver would refuse; `pack_bundle` audits what it packs anyway.

    Raises:
        InputError: a config has no such name or is no JSON.
    """
    known = sorted(path.name for path in list_configs(bundle / "configs") if path.name != METADATA)
    chosen = [_find_config(name, known) for name in names]
    import_monai()
    configs = Configs({name: read_config(bundle, name) for name in known})
    metadata = read_config(bundle, METADATA, optional=True)
    issues = list(check_files(bundle))
    if metadata:
        issues += [*check_metadata(metadata), *check_versions(metadata)]
    found = audit_configs(bundle, values)
    foreign = any(finding.code in _FOREIGN for finding in found)
    if not foreign:
        issues += _check_run(configs, chosen, values or {}) if chosen or values else _check_all(configs)
    places = {(issue.path, issue.record) for issue in issues if issue.severity == "error"}
    refused = _list_refused(found, () if foreign else _FOUND_HERE) if audit else ()
    issues += [issue for issue in refused if (issue.path, issue.record) not in places]
    judged: list[tuple[Config, list[Issue]]] = []  # most configs of a bundle share their network
    for name in [name for name in configs.complete if not chosen or name in chosen]:
        issues += check_properties(configs.content[name], name)
        network = _find_parts(configs.content[name], "network_def")
        if _is_refused(name, found) or any(issue.path == name and issue.severity == "error" for issue in issues):
            continue
        known_issues = next((other for config, other in judged if config == network), None)
        if known_issues is None:
            known_issues = list(check_network(configs.content[name], metadata, name))
            judged.append((network, known_issues))
        issues += [replace(issue, path=name) if issue.code == "network" else issue for issue in known_issues]
    if not chosen and TRAIN in known and INFERENCE in known:
        scored = configs.merge(TRAIN, *[EVALUATE] * (EVALUATE in known))
        issues += check_drift(scored, configs.content[INFERENCE])
    return list(dict.fromkeys(issues))


def _find_parts(config: Config, name: str) -> Config:
    """Return what an id names and all that this refers to, by id."""
    found: Config = {}
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = look_up(config, name)
            waiting += [other for _, text in list_texts(found[name]) for other in find_references(text)]
    return found


def _list_refused(found: Iterable[Finding], known: Collection[str]) -> Iterator[Issue]:
    """Yield what the audit of a receiver would not let pass in configs, and what would run in other files.

    Args:
        found: by the audit.
        known: codes that are reported already.
    """
    for finding in found:
        config = finding.file.startswith(("configs/", COMMAND_LINE))
        relevant = config or finding.code.startswith(("expression-", "target-", "mode-"))
        if finding.level == "error" and relevant and finding.code not in known:
            file = finding.file.removeprefix("configs/")
            yield Issue(finding.code, "error", finding.why, finding.key, file, finding.todo)


def _is_refused(name: str, found: Collection[Finding]) -> bool:
    """Whether the audit refuses a config, or any file of the bundle if the config reads files."""
    file = f"configs/{name}"
    reads = any(finding.file == file and finding.code == "macro-file" for finding in found)
    return any(finding.level == "error" and (reads or finding.file == file) for finding in found)


def _find_config(name: str, known: Sequence[str]) -> str:
    file = name if name.endswith(".json") else f"{name}.json"
    if file not in known:
        raise InputError(f"--config: there is no config {file}; {suggest_name(file, known)}")
    return file


def _check_all(configs: Configs) -> Iterator[Issue]:
    for name in configs.content:
        if name in configs.complete:
            others = {file: other for file, other in configs.content.items() if file != name}
            yield from _name(check_config(configs.content[name], others), name)
        else:
            yield from _name(check_override(configs, name), name)


def _check_run(configs: Configs, names: Sequence[str], values: Mapping[str, Any]) -> Iterator[Issue]:
    """Check the configs that a command would name, together, and what it would override."""
    files = list(names) or [name for name in (TRAIN, INFERENCE) if name in configs.content][:1]
    merged = configs.merge(*files)
    others = {file: other for file, other in configs.content.items() if file not in files}
    yield from _name(check_config(merged, others), " + ".join(files))
    typed = {key: str(value) for key, value in values.items()}
    yield from _name(Overrides(merged, dict(values), typed, others).find_issues(), "--override")


def _name(issues: Iterable[Issue], file: str) -> Iterator[Issue]:
    for issue in issues:
        yield replace(issue, path=file)


def check_properties(config: Config, file: str) -> Iterator[Issue]:
    """Yield the ids that MONAI's workflows and clients need and that a complete config lacks.

    Args:
        config: the config.
        file: its name.
    """
    from monai.bundle.properties import InferProperties, TrainProperties

    rules: Mapping[str, Any] = TrainProperties if look_up(config, "train") is not MISSING else InferProperties
    for name, rule in rules.items():
        place = rule["id"].replace("::", "#")
        if rule["required"] and look_up(config, place) is MISSING:
            hint = f"MONAI's property {name}: {rule['description']}"
            yield Issue("missing-id", "error", f"there is no {place}", place, file, hint.splitlines()[0].rstrip("."))
    if look_up(config, "run") is MISSING:
        yield Issue("missing-id", "error", "there is no run", "run", file, 'such as "run": ["$@train#trainer.run()"]')
