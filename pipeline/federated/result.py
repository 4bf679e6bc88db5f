"""The result of a federation: the best weights of all sites, written as a bundle."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.bundle.config_files import METADATA, read_config, read_json
from pipeline.federated.job import BEST, FEDERATION, LAST, SERVER, read_configs
from pipeline.handlers.checkpoints.atomic_save import save_state, write_json
from pipeline.issues import InputError
from pipeline.weights import find_misfit, read_plain

_LEFT_OUT = ("models", "output", "large_files.yml", "__pycache__")
#: Record of the federation in the bundle that it made
RECORD = "docs/federated.json"
_ROUNDS = "metrics/round_metrics.jsonl"
_SCORES = "cross_site_val/cross_val_results.json"


@dataclass(frozen=True)
class Result:
    """What the server of a federation holds at its end."""

    weights: Path  #: the best weights, as NVFlare's ``PTFileModelPersistor`` writes them
    federation: Mapping[str, Any]  #: bundle, sites, rounds, local_epochs, configs, key_metric, labels
    #: scores of these weights by site, with the number of its validation ``cases``; empty where a site has not answered
    scores: Mapping[str, Mapping[str, float]]
    #: key metric of the weights that each round started from, weighted by the sites' training cases
    rounds: tuple[float | None, ...]

    @property
    def key_metric(self) -> str:
        """Name of the metric that chose the weights."""
        return str(self.federation["key_metric"])

    @property
    def missing(self) -> list[str]:
        """Sites that have not scored the weights: with one of them the federation is not complete."""
        return [name for name in self.federation["sites"] if self.key_metric not in self.scores.get(name, {})]

    @property
    def mean(self) -> float | None:
        """Mean of the key metric over the validation cases of all sites that have answered."""
        return average(self.scores, self.key_metric)

    def describe(self) -> dict[str, Any]:
        """Return all that is known about the weights, for JSON."""
        return {
            **self.federation,
            "weights": self.weights.name,
            "mean": self.mean,
            "scores": self.scores,
            "sites_without_scores": self.missing,
            "scores_before_each_round": list(self.rounds),
        }


def average(scores: Mapping[str, Mapping[str, float]], metric: str) -> float | None:
    """Return the mean of a metric over the cases of all sites; None if no site has it.

    Example:
        >>> average({"north": {"dice": 0.9, "cases": 3}, "south": {"dice": 0.5, "cases": 1}, "west": {}}, "dice")
        0.8
    """
    known = [site for site in scores.values() if metric in site]
    total = sum(site.get("cases", 1) for site in known)
    return sum(site[metric] * site.get("cases", 1) for site in known) / total if total else None


def read_result(folder: Path) -> Result:
    """Read what the server of a federation has written.

    Args:
        folder: of `pipeline federated simulate`, of a job downloaded from NVFlare's server, or the server's own.

    Raises:
        InputError: there are no weights in it, or those of several jobs.
    """
    run = find_server(folder)
    federation = read_json(run / SERVER / "config" / FEDERATION)
    scores = read_json(run / _SCORES) if (run / _SCORES).is_file() else {}
    models = run / SERVER / "models"
    by_weights = {
        name: {site: of_site.get(f"SRV_{name}", {}) for site, of_site in scores.items()}
        for name in (LAST, BEST)
        if (models / name).is_file()
    }
    if not by_weights:
        raise InputError(
            f"{folder}: the server has no weights yet: no round was completed; look for the reason in the logs of the "
            "server and of the sites"
        )
    means = {name: average(of_weights, federation["key_metric"]) for name, of_weights in by_weights.items()}
    best = max(means, key=lambda name: _rank(means[name], name))
    return Result(models / best, federation, by_weights[best], _read_rounds(run / _ROUNDS, federation["key_metric"]))


def _rank(mean: float | None, name: str) -> tuple[float, bool]:
    # Without scores, those that NVFlare chose by the rounds' scores; with equal ones, the last.
    return (-1.0, name == BEST) if mean is None else (mean, name == LAST)


def find_server(folder: Path) -> Path:
    """Return the folder of a job on the server, which is or lies in a folder."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; name the folder of a federation, or a job that was downloaded")
    found = sorted(path.parents[2] for path in folder.rglob(f"{SERVER}/config/{FEDERATION}"))
    # The job as it was written lies beside the simulation's folder.
    runs = [path for path in found if not (path / SERVER / "models/initial.pt").is_file() or _has_run(path)] or found
    if not runs:
        raise InputError(f"{folder}: no {SERVER}/config/{FEDERATION} in it; was the job written by federated new?")
    if len(runs) > 1:
        raise InputError(f"{folder} holds {len(runs)} jobs; name one, such as {runs[0]}")
    return runs[0]


def _has_run(run: Path) -> bool:
    return any((run / SERVER / "models" / name).is_file() for name in (LAST, BEST)) or (run / "metrics").is_dir()


def write_bundle(result: Result, bundle: Path, target: Path) -> Path:
    """Write a copy of a bundle with the weights of a federation.

    ``models/model.pt`` are the weights, ``docs/federated.json`` says where they come from. What the bundle said about
    the weights that it had is replaced, or marked as not about these.

    Args:
        result: of the federation.
        bundle: that was trained; the server's copy.
        target: folder of the new bundle; must not exist.

    Raises:
        InputError: the folder exists, or the weights are not those of the bundle's network.
    """
    if target.exists():
        raise InputError(f"{target} exists; choose another -o, or remove it")
    state = read_weights(result, bundle)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        shutil.copytree(bundle, temporary, ignore=lambda folder, names: _leave_out(folder, names, bundle))
        (temporary / "models").mkdir()
        save_state(state, temporary / "models/model.pt")
        (temporary / "docs").mkdir(exist_ok=True)
        write_json(result.describe(), temporary / RECORD)
        _mark(temporary, result)
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def read_weights(result: Result, bundle: Path) -> dict[str, torch.Tensor]:
    """Return the weights in the types of the bundle's network.

    Raises:
        InputError: the file is damaged, or the weights are those of another network.
    """
    try:
        content = read_plain(result.weights)
    except ValueError as error:
        raise InputError(f"{result.weights} {error}") from None
    given = {name: torch.as_tensor(value) for name, value in content["model"].items()}
    configs = result.federation["configs"]
    own = read_configs(bundle, configs).get_parsed_content("network_def").state_dict()
    misfit = find_misfit(own, given)
    if misfit:
        raise InputError(
            f"{result.weights} does not fit the network of {bundle} ({', '.join(configs)}): {misfit}; name the bundle "
            f"that was trained, {result.federation['bundle']}"
        )
    # An average of counters, such as BatchNorm's, is not whole.
    return {name: value.to(own[name].dtype) for name, value in given.items()}


def _read_rounds(path: Path, metric: str) -> tuple[float | None, ...]:
    if not path.is_file():
        return ()
    rounds = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    values = [{item["name"]: item["value"] for item in entry["aggregated_metrics"]} for entry in rounds]
    return tuple(of_round.get(metric) for of_round in values)


def _leave_out(folder: str, names: list[str], bundle: Path) -> set[str]:
    return set(_LEFT_OUT) & set(names) if Path(folder) == bundle else {"__pycache__"} & set(names)


def _mark(bundle: Path, result: Result) -> None:
    federation = result.federation
    sites = len(federation["sites"])
    mean = "not known" if result.mean is None else f"{result.key_metric} {result.mean:.3f}"
    cases = sum(int(scores.get("cases", 0)) for scores in result.scores.values())
    path = bundle / "configs" / METADATA
    if path.is_file():
        metadata = read_config(bundle, METADATA)
        metadata["validation_score"] = f"federated: {mean} ({cases} validation cases of {sites} sites)"
        write_json(metadata, path)
    card = bundle / "docs/README.md"
    if card.is_file():
        note = (
            f"> **Weights of a federation**: trained at {sites} sites in {federation['rounds']} rounds of "
            f"{federation['local_epochs']} epochs, see `{RECORD}`. Scores, pictures and numbers of patients below are "
            "those of the bundle that it was made from.\n\n"
        )
        card.write_text(note + card.read_text(encoding="utf-8"), encoding="utf-8")
