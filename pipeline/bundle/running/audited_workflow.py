"""MONAI's workflow for configs, without the folder of the bundle among the places of modules."""

from typing import Any

from monai.bundle import ConfigWorkflow


class AuditedWorkflow(ConfigWorkflow):
    """Run a config as `monai.bundle.ConfigWorkflow` does, but do not put the bundle's folder into `sys.path`.

    A file that a run writes into the bundle could hide a module that is imported later.
    """

    def run(self) -> Any:
        """Run the part that is to be run."""
        if self.run_id not in self.parser:
            raise ValueError(f"run ID '{self.run_id}' doesn't exist in the config file.")
        return self._run_expr(id=self.run_id)
