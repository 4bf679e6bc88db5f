"""MONAI Label's own server and app, asked over HTTP: infer, save a label, train, infer with what was trained."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nibabel
import numpy as np
import pytest

from tests.bundles.conftest import ROOT
from tests.clients.copies import digest, load_weights, same_weights
from tests.clients.images import fill_datastore, read_mask
from tests.clients.predictions import Predicted
from tests.clients.stand_ins import LABEL, write_stand_ins

# One bundle: the tasks behind the server are tested with all of them.
BUNDLE = "hippocampus_segresnet"
BUNDLES = (BUNDLE,)
SECONDS = 300


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    url: str
    bundle: Path
    log: Path

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request; the server's log tells what went wrong."""
        answer = httpx.request(method, f"{self.url}{path}", timeout=SECONDS, **options)
        assert answer.is_success, f"{answer.text}\n{self.log.read_text()[-3000:]}"
        return answer


@pytest.fixture(scope="module")
def server(
    predicted: Predicted, data: dict[str, str], image: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    app = folder / "app"
    shutil.copytree(Path(sys.prefix) / "monailabel/sample-apps/monaibundle", app)
    shutil.copytree(predicted.bundle, app / "model" / BUNDLE)
    studies = fill_datastore(predicted.bundle, data, folder / "studies")
    shutil.copy(image, studies / "new.nii.gz")
    write_stand_ins(LABEL, folder / "stand_ins")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    conf = [word for pair in ({"models": BUNDLE, "zoo_source": "ngc"}).items() for word in ("--conf", *pair)]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app), "--studies", str(studies)]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), *conf],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{folder / 'stand_ins'}{os.pathsep}{ROOT}"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    running = Server(f"http://127.0.0.1:{port}", app / "model" / BUNDLE, folder / "log.txt")
    try:
        wait_for(lambda: is_up(running, process))
        yield running
    finally:
        process.terminate()
        process.wait(60)


def is_up(server: Server, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, server.log.read_text()[-3000:]
    try:
        return httpx.get(f"{server.url}/info/", timeout=SECONDS).is_success
    except httpx.TransportError:
        return False


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "no answer in time"
        time.sleep(0.5)


def infer(server: Server, folder: Path) -> Path:
    """Ask as OHIF does, for a NRRD file."""
    params = {"device": "cpu", "result_extension": ".nrrd", "result_dtype": "uint16"}
    answer = server.ask("POST", f"/infer/{BUNDLE}?image=new&output=image", data={"params": json.dumps(params)})
    target = folder / "answer.nrrd"
    target.write_bytes(answer.content)
    return target


def test_a_user_infers_labels_and_trains(server: Server, predicted: Predicted, image: Path, tmp_path: Path) -> None:
    info = server.ask("GET", "/info/").json()
    assert info["models"][BUNDLE]["labels"] == {"anterior": 1, "posterior": 2}
    assert list(info["trainers"]) == [BUNDLE]

    before = digest(server.bundle)
    answer = infer(server, tmp_path)
    np.testing.assert_array_equal(read_mask(answer).squeeze(), predicted.labels)
    assert digest(server.bundle) == before

    label = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(read_mask(answer).astype(np.uint8), nibabel.load(image).affine), label)
    with label.open("rb") as stream:
        server.ask("PUT", "/datastore/label?image=new&tag=final", files={"label": (label.name, stream)})
    assert "new" in server.ask("GET", "/datastore/?output=all").json()["objects"]

    shipped = load_weights(server.bundle / "models/model.pt")
    params = {"device": "cpu", "max_epochs": 1, "val_split": 0.4, "name": "train", "tracking": "None"}
    server.ask("POST", f"/train/{BUNDLE}", json=params)
    wait_for(lambda: server.ask("GET", "/train/").json()["status"] in ("DONE", "ERROR"))
    state = server.ask("GET", "/train/").json()
    assert state["status"] == "DONE", state["details"]
    trained = load_weights(server.bundle / "models/model.pt")
    assert not same_weights(trained, shipped)
    assert same_weights(load_weights(server.bundle / "models/model_shipped.pt"), shipped)

    assert read_mask(infer(server, tmp_path)).squeeze().shape == predicted.labels.shape
    changed = set(digest(server.bundle).items()) ^ set(before.items())
    assert {name for name, _ in changed} == {"models/model.pt", "models/model_shipped.pt"}
