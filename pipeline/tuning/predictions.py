"""The network's probabilities of every case, computed once and stored."""

import copy
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from tqdm import tqdm

from pipeline.atomic import format_bytes
from pipeline.datasets.digests import compute_sha256
from pipeline.handlers.checkpoints.atomic_save import remove_stale
from pipeline.handlers.run.exits import keep_one_line
from pipeline.issues import InputError
from pipeline.parallel.wrapped import unwrap_network
from pipeline.tuning.cases import LabelledCase
from pipeline.tuning.stored import load_case, save_case
from pipeline.tuning.workflow import HEAD, REFINE, Workflow, explain, list_versions, silence
from pipeline.weights import list_checkpoints, load_weights

_TRANSFORM = "validate#dataset#transform"
_EVALUATOR = "validate#evaluator"
# Arguments of an evaluator that do not change its predictions.
_NOT_USED = ("val_handlers", "key_val_metric", "additional_metrics", "val_data_loader", "postprocessing")


class PredictionStore:
    """The stored predictions of a workflow. Other weights or settings get another folder, other data another file.

    Args:
        workflow: the bundle's evaluation.
        root: folder of the bundle's stores.

    Raises:
        InputError: the weights are missing.
    """

    def __init__(self, workflow: Workflow, root: Path) -> None:
        self._workflow = workflow
        self.checkpoints = find_checkpoints(workflow)
        with explain(f"device in {workflow.bundle}"):
            self.device: torch.device = workflow.parser.get_parsed_content("device")
        # Of an ensemble all, as an evaluation records them.
        self.weights_sha256 = ", ".join(map(compute_sha256, self.checkpoints))
        self.folder = root / self._compute_fingerprint()[:16]

    def path(self, case: LabelledCase) -> Path:
        """Return the file of a case."""
        return self.folder / f"{case.key}.pt"

    def load(self, case: LabelledCase) -> tuple[dict[str, Any], float]:
        """Return the entries of a predicted case, on the workflow's device, and the seconds of its prediction.

        Raises:
            InputError: the file is missing or damaged.
        """
        loaded = load_case(self.path(case), self.device)
        if loaded is None:
            raise InputError(f"the prediction {self.path(case)} is missing or damaged; run the same command again")
        return loaded

    def complete(self, cases: Sequence[LabelledCase]) -> list[float]:
        """Predict the cases that are not stored yet.

        Returns:
            The seconds of each case's prediction, in this run or an earlier one.

        Raises:
            InputError: the weights do not fit, a case cannot be predicted, or the disk has too little space.
        """
        remove_stale(self.folder, (r".*\.pt",))
        # Read in full, because a file may exist and be damaged.
        stored = {case.case_id: load_case(self.path(case)) for case in cases}
        seconds = {case_id: loaded[1] for case_id, loaded in stored.items() if loaded is not None}
        missing = [case for case in cases if case.case_id not in seconds]
        del stored
        if missing:
            with tqdm(total=len(cases), initial=len(seconds), desc="network", unit="case", disable=None) as bar:
                self._predict(missing, seconds, bar)
        return [seconds[case.case_id] for case in cases]

    def _predict(self, missing: Sequence[LabelledCase], seconds: dict[str, float], bar: Any) -> None:
        evaluator = self._build_evaluator(missing)
        waiting = iter(missing)
        started = [0.0]
        names = {"pred", "label", *_list_names(self._workflow.steps)}

        def start() -> None:
            started[0] = time.perf_counter()

        def save(engine: Engine) -> None:
            taken = time.perf_counter() - started[0]
            state: Any = engine.state
            for batch, output in zip(state.batch, state.output, strict=True):
                case = next(waiting)
                data = {key: value for key, value in {**batch, **output}.items() if key in names}
                save_case(self.path(case), data, taken)
                seconds[case.case_id] = taken
                bar.update()
                self._require_room(case, sum(other.case_id not in seconds for other in missing))

        evaluator.add_event_handler(Events.ITERATION_STARTED, start)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, save)
        with silence():  # an error ends the command with one line
            evaluator.run()

    def _build_evaluator(self, missing: Sequence[LabelledCase]) -> Any:
        """Return the bundle's evaluator on these cases, without its metrics, its output files and the tuned steps."""
        place = str(self._workflow.bundle)
        parser = ConfigParser(copy.deepcopy(self._workflow.parser.get()))
        parser[REFINE] = []
        parser[f"{_EVALUATOR}#val_data_loader"] = []
        for name in ("val_handlers", "key_val_metric", "additional_metrics"):
            parser[f"{_EVALUATOR}#{name}"] = None
        with explain(place):
            parser.parse(reset=True)
            if "initialize" in parser:
                parser.get_parsed_content("initialize")
            transform = parser.get_parsed_content(_TRANSFORM)
            evaluator = parser.get_parsed_content(_EVALUATOR)
            network = parser.get_parsed_content("network")
        load_weights(unwrap_network(network), self.checkpoints[0])
        evaluator.data_loader = DataLoader(Dataset([case.item for case in missing], transform), batch_size=1)
        evaluator.state.epoch_length = len(missing)
        keep_one_line(evaluator)
        return evaluator

    def _require_room(self, case: LabelledCase, remaining: int) -> None:
        needed = self.path(case).stat().st_size * remaining
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"the predictions need {format_bytes(needed)} more in {self.folder}, but {format_bytes(free)} are free;"
                " choose a folder on another disk with --cache"
            )

    def _compute_fingerprint(self) -> str:
        evaluator = self._workflow.parser[_EVALUATOR]
        used = [f"{_EVALUATOR}#{key}" for key in evaluator if key not in _NOT_USED]
        return self._workflow.digest(
            [*used, "network", "initialize", _TRANSFORM, HEAD],
            names=sorted(_list_names(self._workflow.steps)),
            weights=self.weights_sha256,
            device=self.device.type,
            versions=list_versions(),
        )


def find_checkpoints(workflow: Workflow) -> list[Path]:
    """Return the file of the network's weights, of an ensemble those of all members.

    Raises:
        InputError: there is none, or one is missing.
    """
    with explain(f"checkpoint in {workflow.bundle}"):
        files = list_checkpoints(workflow.parser.get_parsed_content("checkpoint"))
    missing = [file for file in files if not file.is_file()]
    if not files or missing:
        where = missing[0] if missing else workflow.bundle
        raise InputError(
            f"no weights at {where}; train the bundle first, or name a file: --checkpoint "
            f"{workflow.bundle / 'output' / 'model.pt'}"
        )
    return files


def _list_names(item: Any) -> set[str]:
    """Return the texts among the arguments of steps, which include the names of the entries that they read."""
    if isinstance(item, str):
        return set() if item.startswith(("@", "$")) else {item}
    if isinstance(item, dict):
        return {name for key, value in item.items() if not key.startswith("_") for name in _list_names(value)}
    return {name for value in item for name in _list_names(value)} if isinstance(item, list) else set()
