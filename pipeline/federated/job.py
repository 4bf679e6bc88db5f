"""Write a federation: an NVFlare job, which holds no code and no config of the bundle, and a file of its sites."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.atomic import write_atomically
from pipeline.bundle.config_files import METADATA, TRAIN, read_config
from pipeline.bundle.configs import find_blocks
from pipeline.federated.sites import SITES, Site, write_sites
from pipeline.issues import InputError
from pipeline.weights import load_weights

#: The NVFlare job in the folder of a federation
JOB = "job"
#: What a job does, beside the server's config
FEDERATION = "federation.json"
SERVER, CLIENT = "app_server", "app_client"
EXECUTOR = "pipeline.federated.executor.BundleExecutor"
PERSISTOR = "nvflare.app_opt.pt.file_model_persistor.PTFileModelPersistor"
#: Weights on the server
LAST, BEST = "FL_global_model.pt", "best_FL_global_model.pt"
_INITIAL = "initial.pt"


@dataclass(frozen=True)
class Plan:
    """What a federation does."""

    bundle: Path  #: folder of the bundle
    sites: tuple[str, ...]  #: names of the sites
    rounds: int  #: how often the sites' weights are averaged
    local_epochs: int  #: epochs that each site trains in a round
    configs: tuple[str, ...] = (TRAIN,)  #: files in the bundle's ``configs``
    checkpoint: Path | None = None  #: weights to start from; None: those that the network has when it is built
    seed: int | None = None  #: of the first weights; None: the bundle's


def write_job(plan: Plan, folder: Path, places: Mapping[str, str]) -> Path:
    """Write the folder of a federation.

    Args:
        plan: what it does.
        folder: must not exist.
        places: ``dataset_dir``, ``manifest`` and ``output_dir`` of the sites, with ``{site}`` for a site's name.

    Returns:
        The folder of the NVFlare job in it.

    Raises:
        InputError: the folder exists, or the bundle is not complete.
    """
    if folder.exists():
        raise InputError(f"{folder} exists; choose another -o, or remove it")
    parser = read_configs(plan.bundle, plan.configs)
    key_metric, labels = find_key_metric(parser, plan.bundle), read_labels(plan.bundle)
    weights = _build_weights(plan, parser)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        _write_app(temporary / JOB / SERVER, "server", _server_config(plan, key_metric))
        _write_app(temporary / JOB / CLIENT, "client", _client_config(plan, labels))
        _write_json(temporary / JOB / SERVER / "config/environment.json", _environment())
        (temporary / JOB / SERVER / "models").mkdir()
        torch.save(weights, temporary / JOB / SERVER / "models" / _INITIAL)
        _write_json(temporary / JOB / "meta.json", _meta(plan))
        _write_json(temporary / JOB / SERVER / "config" / FEDERATION, _describe(plan, key_metric, labels))
        write_sites([_place(name, plan, places) for name in plan.sites], temporary / SITES)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / JOB


def read_configs(bundle: Path, configs: Sequence[str]) -> Any:
    """Return MONAI's parser of files in a bundle's ``configs``; later ones override.

    Raises:
        InputError: a file is missing or broken.
    """
    from monai.bundle import ConfigParser

    for name in configs:
        read_config(bundle, name)
    parser = ConfigParser()
    parser.read_config([str(bundle / "configs" / name) for name in configs])
    parser["bundle_root"] = str(bundle)
    return parser


def find_key_metric(parser: Any, bundle: Path) -> str:
    """Return the name of the metric that chooses a bundle's best weights."""
    handlers = parser.get("train#handlers", [])
    for place, handler in enumerate(handlers):
        if any(find_blocks(handler, "TrainingRun", "TrainingCheckpoint")):
            return str(parser.get_parsed_content(f"train#handlers#{place}#key_metric"))
    raise InputError(f"{bundle / 'configs' / TRAIN}: no handler TrainingRun with key_metric in train#handlers")


def read_labels(bundle: Path) -> dict[str, str] | None:
    """Return the names of a bundle's labels by id, as its metadata state them; None without."""
    metadata = read_config(bundle, METADATA, optional=True)
    pred = metadata.get("network_data_format", {}).get("outputs", {}).get("pred", {})
    labels = pred.get("channel_def") if isinstance(pred, dict) else None
    return dict(labels) if isinstance(labels, dict) else None


def _build_weights(plan: Plan, parser: Any) -> dict[str, torch.Tensor]:
    seed = plan.seed if plan.seed is not None else int(parser.get("seed", 0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = parser.get_parsed_content("network_def")
    if plan.checkpoint is not None:
        load_weights(network, plan.checkpoint)
    state: dict[str, torch.Tensor] = network.state_dict()
    return state


def _place(name: str, plan: Plan, places: Mapping[str, str]) -> Site:
    dataset_dir, manifest, output_dir = (
        Path(places[key].replace("{site}", name)).expanduser().absolute()
        for key in ("dataset_dir", "manifest", "output_dir")
    )
    return Site(name, plan.bundle.absolute(), dataset_dir, manifest, output_dir, plan.configs)


def _meta(plan: Plan) -> dict[str, Any]:
    return {
        "name": f"{plan.bundle.name}_federated",
        "resource_spec": {},
        # Without one of its sites the job does not start.
        "min_clients": len(plan.sites),
        "mandatory_clients": list(plan.sites),
        "deploy_map": {SERVER: ["server"], CLIENT: list(plan.sites)},
    }


def _describe(plan: Plan, key_metric: str, labels: Mapping[str, str] | None) -> dict[str, Any]:
    return {
        "bundle": plan.bundle.name,
        "sites": list(plan.sites),
        "rounds": plan.rounds,
        "local_epochs": plan.local_epochs,
        "configs": list(plan.configs),
        "key_metric": key_metric,
        "labels": labels,
    }


def _environment() -> dict[str, str]:
    # Read by PTFileModelPersistor: where the weights are, relative to the app's folder, and the first of them.
    return {"APP_CKPT_DIR": "models", "APP_CKPT": f"models/{_INITIAL}"}


def _server_config(plan: Plan, key_metric: str) -> dict[str, Any]:
    common = "nvflare.app_common"
    averaging = {"num_clients": len(plan.sites), "num_rounds": plan.rounds, "persistor_id": "persistor"}
    return {
        "format_version": 2,
        "workflows": [
            {"id": "average", "path": f"{common}.workflows.fedavg.FedAvg", "args": averaging},
            # The averages of the rounds are scored by the next round; this scores the last one, and the best again.
            {
                "id": "score",
                "path": f"{common}.workflows.global_model_eval.GlobalModelEval",
                "args": {"model_locator_id": "locator", "participating_clients": list(plan.sites)},
            },
        ],
        "components": [
            {
                "id": "persistor",
                "path": PERSISTOR,
                "args": {"global_model_file_name": LAST, "best_global_model_file_name": BEST, "load_device": "cpu"},
            },
            {
                "id": "locator",
                "path": "nvflare.app_opt.pt.file_model_locator.PTFileModelLocator",
                "args": {"pt_persistor_id": "persistor"},
            },
            {
                "id": "selector",
                "path": f"{common}.widgets.intime_model_selector.IntimeModelSelector",
                "args": {"key_metric": key_metric, "weigh_by_local_iter": True},
            },
            {"id": "metrics", "path": f"{common}.widgets.metrics_artifact_writer.MetricsArtifactWriter", "args": {}},
            {"id": "scores", "path": f"{common}.widgets.validation_json_generator.ValidationJsonGenerator", "args": {}},
        ],
        **_NO_FILTERS,
    }


def _client_config(plan: Plan, labels: Mapping[str, str] | None) -> dict[str, Any]:
    arguments = {"rounds": plan.rounds, "local_epochs": plan.local_epochs, "labels": labels}
    executor = {"path": EXECUTOR, "args": arguments}
    return {
        "format_version": 2,
        "executors": [{"tasks": ["train", "validate"], "executor": executor}],
        "components": [],
        **_NO_FILTERS,
    }


_NO_FILTERS: Mapping[str, Sequence[Any]] = {"task_data_filters": [], "task_result_filters": []}


def _write_app(folder: Path, kind: str, content: Mapping[str, Any]) -> None:
    _write_json(folder / "config" / f"config_fed_{kind}.json", content)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with write_atomically(path) as stream:
        stream.write(json.dumps(content, indent=4, ensure_ascii=False) + "\n")
