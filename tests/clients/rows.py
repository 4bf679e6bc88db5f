"""What each client is tested with, and what it cannot do: one source for the marks of tests and the documents.

A test module is a client. Every bundle passes it, or fails for the reason that stands here: a limit that no longer
holds fails the tests too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.bundles.conftest import NAMES

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Client:
    """A program that opens bundles."""

    title: str  #: its name in the table
    tested: str  #: what is tested with every bundle


@dataclass(frozen=True)
class Limit:
    """Something that a client cannot do with some bundles."""

    client: str  #: test module
    bundles: str  #: pattern of names
    test: str  #: pattern of the tests that fail
    reason: str  #: why, for users
    error: type[BaseException]  #: how it shows


CLIENTS = {
    "test_alone": Client("alone", "in an empty folder, with the packages of its metadata only: train, evaluate, infer"),
    "test_load": Client("monai.bundle", "`load` with and without weights; the properties that MONAI lists"),
    "test_model_zoo": Client("Model Zoo", "the checks of its CI: files, metadata against the schema, network, ids"),
    "test_export": Client("export", "`ckpt_export` and `onnx_export`; the results equal the network's"),
    "test_label_infer": Client(
        "MONAI Label, inference", "every file format; the same label map as `inference.json`, on the image's grid"
    ),
    "test_label_train": Client(
        "MONAI Label, training", "two trainings, the second goes on from the first; inference then uses the weights"
    ),
    "test_deploy": Client("Deploy SDK", "the bundle operator's steps; the same label map as `inference.json`"),
    "test_monai_algo": Client("MonaiAlgo", "three federated rounds; evaluation scores the global weights"),
}
LIMITS: tuple[Limit, ...] = ()


def find_limit(client: str, bundle: str, test: str = "*") -> Limit | None:
    """Return the limit of a client with a bundle, for one of its tests or for any."""
    for limit in LIMITS:
        if limit.client == client and fnmatchcase(bundle, limit.bundles) and test in (limit.test, "*"):
            return limit
    return None


def read_pins() -> dict[str, str]:
    """Return the tested version of each client that is installed for these tests."""
    lines = [line for path in sorted(HERE.glob("requirements*.txt")) for line in path.read_text("utf-8").splitlines()]
    pairs = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name: version for name, _, version in pairs}


def render_clients() -> str:
    """Return the tables of `docs/reference/clients.md`."""
    pins = ", ".join(f"`{name}` {version}" for name, version in sorted(read_pins().items()))
    titles = [client.title for client in CLIENTS.values()]
    lines = [f"Tested with {pins} and the versions in `constraints.txt`.", ""]
    lines += ["| client | what is tested with every bundle |", "|---|---|"]
    lines += [f"| {client.title} | {client.tested} |" for client in CLIENTS.values()]
    lines += ["", f"| bundle | {' | '.join(titles)} |", f"|---{'|---' * len(titles)}|"]
    lines += [_render_bundle(bundle) for bundle in NAMES]
    notes = [f"{number}. {limit.reason}" for number, limit in enumerate(LIMITS, 1)]
    return "\n".join([*lines, "", *notes]).rstrip()


def _render_bundle(bundle: str) -> str:
    cells = []
    for client in CLIENTS:
        limit = find_limit(client, bundle)
        cells.append("yes" if limit is None else f"limit {LIMITS.index(limit) + 1}")
    return f"| `{bundle}` | {' | '.join(cells)} |"


def render_outcomes(outcomes: Mapping[tuple[str, str], set[str]]) -> list[str]:
    """Return the table of a finished run: the outcomes of a client's tests with each bundle."""
    bundles = sorted({bundle for _, bundle in outcomes})
    clients = [client for client in CLIENTS if any(found == client for found, _ in outcomes)]
    width = max(map(len, bundles), default=0)
    lines = [" " * width + "  " + "  ".join(client.removeprefix("test_") for client in clients)]
    for bundle in bundles:
        cells = [_judge(outcomes.get((client, bundle), set())).ljust(len(client) - 5) for client in clients]
        lines.append(f"{bundle:<{width}}  {'  '.join(cells)}")
    return lines


def _judge(found: set[str]) -> str:
    return next((name for name in ("failed", "error", "skipped", "xfailed", "passed") if name in found), "-")
