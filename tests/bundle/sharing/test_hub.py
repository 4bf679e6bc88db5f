"""A bundle travels through a Hugging Face repository, with the hub's own client and a server on this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.bundle.sharing.repository_card import may_replace
from pipeline.commands.cli import main
from tests.bundle.sharing.conftest import NAME, Authority, digest, pack, set_endpoint
from tests.bundle.sharing.hub_server import TOKEN, HubServer
from tests.bundle.sharing.test_folder import list_files, read_line

PLACE = "hf://lab/spleen"


def call(*words: object) -> int:
    return main(["bundle", *map(str, words)])


@pytest.fixture
def push(hub: HubServer, archive: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Push and return the words of the receiver's command."""

    def run(*words: object) -> list[str]:
        capsys.readouterr()
        assert call("push", archive, PLACE, "--create", *words) == 0
        return shlex.split(read_line(capsys.readouterr().out, "pull:"))[4:]

    return run


def test_round_trip(
    push: Callable[..., list[str]],
    hub: HubServer,
    archive: Path,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = push()
    repository = hub.repositories["lab/spleen"]
    commit = repository.commits[-1][0]
    pinned = f"hf://lab/spleen/spleen.zip@{commit}"
    assert words == ["pull", f"{pinned}#sha256={digest(archive)}", NAME]
    assert repository.private
    assert repository.messages[1:] == ["spleen 1.0.0"]
    assert call(*words) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{NAME}: 7 files from {pinned}\nsha256: {digest(archive)}\n")
    assert [path.name for path in workplace.iterdir()] == [NAME]
    assert call("verify", NAME) == 0
    # A commit by name, the newest revision, and a repository with one zip file lead to the same.
    for number, place in enumerate([PLACE, f"{PLACE}/spleen.zip", f"{PLACE}@main", f"{PLACE}@{commit}"]):
        assert call("pull", place, f"again_{number}", "--sha256", digest(archive)) == 0
        assert pinned in capsys.readouterr().out


def test_pinned_place_gives_the_same_after_a_later_push(
    push: Callable[..., list[str]], hub: HubServer, archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, old = push(), digest(archive)
    pack(archive, {"docs/README.md": b"# Spleen, newer\n"})
    second = push()
    assert [name for name, _ in hub.repositories["lab/spleen"].commits][1:] == [
        words[1].partition("@")[2].partition("#")[0] for words in (first, second)
    ]
    assert call("pull", first[1], "old") == 0
    assert call("pull", second[1], "new") == 0
    assert (workplace / "old/docs/README.md").read_text() == "# Spleen\n"
    assert (workplace / "new/docs/README.md").read_text() == "# Spleen, newer\n"
    capsys.readouterr()
    assert call("pull", PLACE, "mine", "--sha256", old) == 1
    assert f"sha256 is {digest(archive)}, expected {old}" in capsys.readouterr().err
    commits = len(hub.repositories["lab/spleen"].commits)
    assert push() == second, "the same bytes make no new commit"
    assert len(hub.repositories["lab/spleen"].commits) == commits


def test_hub_that_swaps_bytes_is_caught(
    push: Callable[..., list[str]], hub: HubServer, archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, old = push(), digest(archive)
    hub.objects[old] = pack(archive, {"docs/README.md": b"# Swapped\n"}).read_bytes()
    assert call(*words) == 1
    assert f"sha256 is {digest(archive)}, expected {old}" in capsys.readouterr().err
    assert list(workplace.iterdir()) == []


def test_page_of_the_repository(
    push: Callable[..., list[str]], hub: HubServer, archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push()
    repository = hub.repositories["lab/spleen"]
    page = repository.commits[-1][1]["README.md"].decode()
    assert yaml.safe_load(page.split("---\n")[1]) == {
        "library_name": "monai",
        "license": "apache-2.0",
        "pipeline_tag": "image-segmentation",
        "tags": ["monai", "medical"],
    }
    assert "\n# Spleen\n" in page
    assert repository.commits[-1][1]["data_license.txt"] == b"Data: CC BY 4.0\n"
    command = next(line for line in page.splitlines() if line.startswith("python -m pipeline bundle pull"))
    assert call(*shlex.split(command)[4:]) == 0, "the page says how to get the bundle"
    pack(archive, {"docs/README.md": b"# Spleen, newer\n"})
    push()
    assert "# Spleen, newer" in repository.commits[-1][1]["README.md"].decode(), "ours, and not edited"
    edited = repository.commits[-1][1]["README.md"] + b"A word of ours.\n"
    repository.add({"README.md": edited}, "edited on the page")
    pack(archive, {"docs/README.md": b"# Spleen, newest\n"})
    capsys.readouterr()
    assert call("push", archive, PLACE) == 0
    assert "README.md of the repository stays as it is: no push of spleen wrote it" in capsys.readouterr().err
    assert repository.commits[-1][1]["README.md"] == edited
    assert may_replace(page.replace("\n", "\r\n"), NAME), "an editor changed the line ends only"
    assert not may_replace(page, "liver"), "the page of another bundle"
    assert not may_replace("# My lab", NAME)


def complain(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert call(*words) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert TOKEN not in error
    return error


def test_what_a_sender_may_not_do(
    hub: HubServer,
    archive: Path,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = complain(capsys, "push", archive, PLACE)
    assert f"{hub.base} has no repository lab/spleen, or does not show it to you" in missing
    assert "push makes it with --create (private; with --public for everyone)" in missing
    assert "a push makes the revision; leave @main out" in complain(capsys, "push", archive, f"{PLACE}@main")
    hub.may_write = False
    assert f"make one with the right to write at {hub.base}/settings/tokens" in complain(
        capsys, "push", archive, PLACE, "--create"
    )
    hub.may_write = True
    assert call("push", archive, PLACE, "--create", "--public") == 0, "the hint"
    assert "visible to everyone\n" in capsys.readouterr().err
    assert not hub.repositories["lab/spleen"].private
    pack(archive, {"docs/README.md": b"# Spleen, newer\n"})
    hub.refuse = 412
    assert "somebody changed the repository at the same moment; type" in complain(capsys, "push", archive, PLACE)
    hub.refuse = 500
    assert f"{hub.base} cannot be used: " in complain(capsys, "push", archive, PLACE)
    hub.refuse = 0
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    line = complain(capsys, "push", archive, PLACE)
    assert "does not accept your token; log in: hf auth login, or set HF_TOKEN" in line
    assert "hf_expired" not in line
    monkeypatch.delenv("HF_TOKEN")
    assert f"there is no token for {hub.base}; log in: hf auth login, or set HF_TOKEN" in complain(
        capsys, "push", archive, PLACE
    )
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert call("push", archive, PLACE) == 0, "the hint"


def test_what_a_receiver_does_not_get(
    push: Callable[..., list[str]],
    hub: HubServer,
    archive: Path,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pull(place: str) -> str:
        line = complain(capsys, "pull", place, NAME, "--sha256", digest(archive))
        assert list(workplace.iterdir()) == []
        return line

    words = push()
    assert "has no repository lab/liver, or does not show it to you: log in" in pull("hf://lab/liver/a.zip")
    assert "the repository has no file liver.zip at this revision" in pull(f"{PLACE}/liver.zip")
    assert "the repository has no revision v9; ask for the right one" in pull(f"{PLACE}/spleen.zip@v9")
    repository = hub.repositories["lab/spleen"]
    repository.add({"old.zip": b"PK"}, "another")
    assert "has 2 zip files; name one: hf://lab/spleen/FILE.zip; known: old.zip, spleen.zip" in pull(PLACE)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert "does not accept your token" in pull(words[1])
    monkeypatch.delenv("HF_TOKEN")
    assert "does not show it to you: log in: hf auth login, or set HF_TOKEN" in pull(words[1])
    repository.private, repository.gated = False, True
    assert f"its owner grants access: ask at {hub.base}/lab/spleen" in pull(words[1])
    repository.gated = False
    assert call(*words) == 0, "a public repository needs no token"


def test_token_goes_to_the_hub_only(push: Callable[..., list[str]], hub: HubServer, workplace: Path) -> None:
    assert call(*push()) == 0
    stored = [request for request in hub.requests if request[1].startswith(("/stored/", "/lfs/"))]
    assert {request[0] for request in stored} == {"PUT", "GET"}
    assert {request[2] for request in stored} == {None}
    assert all("torch" not in (request[3] or "") for request in hub.requests), "no telemetry"
    assert not [request for request in hub.requests if "telemetry" in request[1] or "harness" in request[1]]


def test_hub_that_is_not_there(
    push: Callable[..., list[str]],
    hub: HubServer,
    archive: Path,
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = push()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "may not be asked while HF_HUB_OFFLINE is set; unset it" in complain(capsys, *words)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    set_endpoint(monkeypatch, hub.base.replace("https", "http"))
    assert "expected an https address: a token must not travel openly" in complain(capsys, *words)
    set_endpoint(monkeypatch, "https://127.0.0.1:1")
    for command in (words, ["push", str(archive), PLACE]):
        line = complain(capsys, *command)
        assert "https://127.0.0.1:1 cannot be used: " in line
        assert "is the network there? try again" in line


def test_without_the_extra(
    archive: Path, workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for words in (("push", archive, PLACE), ("pull", PLACE, NAME, "--sha256", digest(archive))):
        assert 'type python -m pip install "huggingface_hub>=1,<3"' in complain(capsys, *words)


@pytest.mark.slow
def test_in_a_process_of_its_own_nothing_is_written_at_home(
    hub: HubServer, authority: Authority, archive: Path, workplace: Path, tmp_path: Path
) -> None:
    home = tmp_path / "user"
    home.mkdir()
    keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = {**keep, "HOME": str(home), "HF_ENDPOINT": hub.base, "HF_TOKEN": TOKEN}
    environment["SSL_CERT_FILE"] = str(authority.file)
    pythonpath = [str(Path(__file__).resolve().parents[3]), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, pythonpath))

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "pipeline", "bundle", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=120)
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout

    words = shlex.split(read_line(run("push", str(archive), PLACE, "--create"), "pull:"))
    run(*words[4:])
    assert len(list_files(workplace / NAME)) == 7
    kept = {name for name in list_files(home) if "huggingface" in name or name.endswith((".zip", ".md"))}
    assert kept == set()
