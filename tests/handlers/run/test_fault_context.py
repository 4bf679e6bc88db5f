"""The knobs that a line about memory names, as the run resolved them."""

import sys
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from pipeline.handlers.run.fault_context import read_settings


class ConfigWorkflow:
    """In place of MONAI's, whose class name tells the frame that holds it."""

    def __init__(self, content):
        self.parser = SimpleNamespace(ref_resolver=SimpleNamespace(resolved_content=content))

    def run(self):
        return sys._getframe()


@pytest.mark.parametrize(
    ("number", "workers", "expected"), [("auto", 2, 2), ("auto", 0, 0), ("auto", None, 0), (3, 3, 3)]
)
def test_auto_is_named_by_what_it_stood_for(number, workers, expected):
    content = {"num_workers": number, "batch_size": 4}
    if workers is not None:
        content["train#dataloader"] = DataLoader([1], num_workers=workers)
        content["validate#dataloader"] = DataLoader([1])
    settings = read_settings([ConfigWorkflow(content).run()])
    assert settings.values == {"num_workers": expected, "batch_size": 4}
