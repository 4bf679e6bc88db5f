"""The only class of this package that NVFlare's job names: it does a site's part of each round.

A site allows it by its full name in ``class_allow_list``; no code and no config comes with the job.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLMetaKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from pipeline.faults import describe_first
from pipeline.federated.site_training import SiteTraining
from pipeline.federated.sites import ERROR, SITES, find_site
from pipeline.handlers.run.exits import find_line
from pipeline.issues import InputError


class BundleExecutor(Executor):
    """Score and train a site's own copy of a bundle with the weights that the server sends.

    Where the bundle and the images are is in ``local/sites.json`` of the site's NVFlare workspace. An error ends the
    site's part; its line is in the site's log and in ``error.txt`` in the job's folder there. The server learns only
    that the part failed, because the line may name folders and files.

    Args:
        rounds: of the federation.
        local_epochs: epochs of each round.
        labels: name by label id that the federation trains; None does not compare them.
    """

    def __init__(self, rounds: int, local_epochs: int, labels: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.rounds = rounds
        self.local_epochs = local_epochs
        self.labels = labels
        self._training: SiteTraining | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Close the training at the end of the job."""
        if event_type == EventType.END_RUN and self._training is not None:
            self._training.close()
            self._training = None

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Do the task ``train`` or ``validate``; a failure is one line in the log and a return code."""
        try:
            model = self._do(task_name, shareable, fl_ctx, abort_signal)
        except (InputError, Exception) as error:
            self._report(error, fl_ctx)
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        return make_reply(ReturnCode.TASK_UNKNOWN) if model is None else FLModelUtils.to_shareable(model)

    def _do(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> FLModel | None:
        weights = FLModelUtils.from_shareable(shareable).params
        if self._training is None:
            workspace = fl_ctx.get_engine().get_workspace()
            site = find_site(fl_ctx.get_identity_name(), Path(workspace.get_site_config_dir()) / SITES)
            self._training = SiteTraining(site, self.rounds, self.local_epochs, self.labels)
        training = self._training
        if task_name == AppConstants.TASK_VALIDATION:
            return FLModel(metrics={**training.score(weights), "cases": training.n_val})
        if task_name != AppConstants.TASK_TRAIN:
            return None
        trained, scores = training.train(weights, lambda: bool(abort_signal.triggered))
        # NVFlare's average weighs a site by this number.
        meta: dict[str, Any] = {FLMetaKey.NUM_STEPS_CURRENT_ROUND: training.n_train}
        return FLModel(params=trained, params_type=ParamsType.FULL, metrics=scores, meta=meta)

    def _report(self, error: BaseException, fl_ctx: FLContext) -> None:
        line = error if isinstance(error, InputError) else find_line(error)
        if line is None:
            self.log_exception(fl_ctx, "the trace of the error")
            line = InputError(f"{describe_first(error)}; the trace is in the log of site {fl_ctx.get_identity_name()}")
        self.log_error(fl_ctx, str(line))
        folder = Path(fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id()))
        (folder / ERROR).write_text(f"{line}\n", encoding="utf-8")
