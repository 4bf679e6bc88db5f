"""The fixtures of datasets serve the commands too."""

from tests.datasets.conftest import add_patient, kaggle, manifest, patients

__all__ = ["add_patient", "kaggle", "manifest", "patients"]
