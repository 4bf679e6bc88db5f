"""Every command and code block of README, docs and the other documents is executed on phantoms, or marked.

``<!-- needs: a reason -->`` before a block: it is not executed, only checked (sub-commands, options, files and ids
exist). ``<!-- slow -->``: it is executed by the slow tests. See `tests.docs.sandbox` for what the commands find.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.commands import check_command
from tests.docs.markdown import ROOT, Block, list_documents, read_blocks, read_text
from tests.docs.sandbox import Sandbox, use_environment

DOCUMENTS = list_documents()
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")
BLOCKS = [block for document in DOCUMENTS for block in read_blocks(document)]
MARKED = [block for block in BLOCKS if block.mark == "needs"]
LANGUAGES = {"bash", "python", "json", "text"}
# Why a block is not executed.
REASONS = {
    "NVFlare",
    "a download",
    "a Kaggle account",
    "the whole dataset",
    "a checkout of the repository",
    "weights of several trainings",
    "a full training",
    "MONAI Label",
    "the packages of an extra",
    "a bundle that somebody sent",
}

# What a document says that its commands write.
PROMISED = {
    "README.md": (
        *("runs/lgg/model.pt", "runs/lgg/last_epoch=*.pt", "runs/lgg/run.json", "runs/lgg/metrics.csv"),
        *("runs/lgg/dice_patient_raw.csv", "runs/lgg/events.out.tfevents.*", "runs/lgg_val/evaluate.json"),
        *("runs/masks/TCGA_CS_4941_19960909/*_pred.tif", "runs/masks/TCGA_CS_4941_19960909/*_overlay.png"),
        *("bundles/my_bundle/docs/README.md", "output/my_bundle/model.pt"),
    ),
    "docs/how-to/predict.md": ("runs/isic/threshold.json", "runs/isic/predictions.png", "runs/isic_masks/*_pred.png"),
    "docs/how-to/tune-post-processing.md": (
        *("runs/lgg_postprocessing.json", "output/lgg_attunet/tune/*/ablation.md", "runs/tuned_masks/*/*_pred.tif"),
    ),
    "docs/how-to/use-your-own-data.md": ("masks/*_pred.png", "masks/*_overlay.png"),
    "docs/how-to/manage-datasets.md": ("report.html", "Dataset101_LGG/splits_final.json", "u373_coco/**/*.json"),
    "docs/how-to/federated.md": ("federation/job/meta.json", "federation/sites.json"),
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("repository"))


def list_prerequisites(document: str) -> list[str]:
    """Return the documents that one builds on: those that it names in its comment ``after``."""
    found = re.search(r"^<!-- after: (.+) -->$", read_text(document), flags=re.MULTILINE)
    return found[1].split() if found else []


def run_document(document: str, sandbox: Sandbox) -> None:
    for earlier in list_prerequisites(document):
        run_document(earlier, sandbox)
    for block in read_blocks(document):
        if block.language in ("bash", "python") and not block.mark:
            try:
                sandbox.run(block)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"{block.name}: {error!r}") from error


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if any(b.document == name for b in BLOCKS)])
def test_blocks_run(document: str, sandbox: Sandbox) -> None:
    run_document(document, sandbox)


@pytest.mark.parametrize(("document", "patterns"), PROMISED.items(), ids=PROMISED)
def test_promised_files_are_there(document: str, patterns: tuple[str, ...], sandbox: Sandbox) -> None:
    run_document(document, sandbox)
    for pattern in patterns:
        assert list(sandbox.folder.glob(pattern)), pattern


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_can_be_typed(document: str) -> None:
    made: set[str] = set()
    for earlier in (*list_prerequisites(document), document):
        for block in read_blocks(earlier):
            for words in block.list_commands() if block.language == "bash" else ():
                check_command(words, made)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_blocks_name_their_language(block: Block) -> None:
    assert block.language in LANGUAGES, "write ```bash, ```python, ```json or ```text"
    if block.language == "json":
        json.loads(block.text)
    if block.language == "python":
        ast.parse(block.text)


@pytest.mark.parametrize("block", MARKED, ids=[block.name for block in MARKED])
def test_marked_blocks_say_why(block: Block) -> None:
    assert block.reason in REASONS


def test_most_blocks_are_executed() -> None:
    commands = [block for block in BLOCKS if block.language in ("bash", "python")]
    assert len(commands) > 40
    assert len(MARKED) < len(commands) / 3


@pytest.mark.slow
def test_blocks_run_as_typed(tmp_path: Path) -> None:
    """The README's blocks and the slow ones, typed into a shell, each command in its process."""
    Sandbox(tmp_path)
    chosen = [block for block in BLOCKS if block.language == "bash"]
    chosen = [b for b in chosen if b.mark == "slow" or (b.document == "README.md" and b.mark != "needs")]
    with use_environment(tmp_path) as environment:
        for block in chosen:
            script = f"set -euo pipefail\n{block.text}"
            command = ["bash", "-c", script]
            done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{block.name}:\n{done.stderr[-5000:]}"


def test_nothing_was_written_into_the_repository() -> None:
    assert not list(ROOT.glob("bundles/my_*"))
