"""The bundles, and what it takes to run one in a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/metadata.json"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that takes ``bundle`` on every bundle."""
    if "bundle" in metafunc.fixturenames:
        metafunc.parametrize("bundle", BUNDLES, ids=[path.name for path in BUNDLES])


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
