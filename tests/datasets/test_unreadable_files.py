"""One file among others that cannot be read: never left out in silence, named with what to do."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.commands.cli import main
from pipeline.datasets import find_images, find_inputs
from pipeline.datasets.layouts import read_layout
from pipeline.datasets.manifests.manifest_file import read_manifest
from pipeline.issues import InputError

NOBODY = 65534


def write_data(root: Path) -> None:
    for number in range(3):
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 200, (20, 30, 3), dtype=np.uint8)).save(
            root / "images" / f"a{number}.png"
        )
        mask = np.zeros((20, 30), np.uint8)
        mask[3:9, 4:9] = 255
        Image.fromarray(mask).save(root / "masks" / f"a{number}.png")


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("/somewhere/gone.png")


def loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


SPOIL = {
    "dangling": (dangle, "broken-link", "link to /somewhere/gone.png, which cannot be followed"),
    "loop": (loop, "broken-link", "which cannot be followed"),
    "cut": (cut, "truncated", "damaged or cut off at 60 bytes"),
    "empty": (empty, "empty-file", "0 bytes"),
    "pipe": (make_pipe, "not-a-file", "a folder or a device"),
}


@pytest.mark.parametrize("folder", ["images", "masks"])
@pytest.mark.parametrize(("spoil", "code", "text"), SPOIL.values(), ids=SPOIL)
def test_a_file_that_cannot_be_read_is_named_at_build(
    spoil: Callable[[Path], None], code: str, text: str, folder: str, tmp_path: Path
) -> None:
    write_data(tmp_path)
    spoil(tmp_path / folder / "a1.png")
    with pytest.raises(InputError, match=rf"{code} {folder}/a1\.png \[a1\]: .*{text}.* --skip-broken leaves"):
        read_layout("folders", tmp_path)
    draft = read_layout("folders", tmp_path, skip_broken=True)
    assert [case.case_id for case in draft.manifest.cases] == ["a0", "a2"]
    assert code in [note.code for note in draft.notes]


@pytest.mark.parametrize(("spoil", "code", "text"), SPOIL.values(), ids=SPOIL)
@pytest.mark.parametrize("find", [find_images, find_inputs])
def test_a_picture_that_cannot_be_read_is_named_at_prediction(
    find: Callable[..., object], spoil: Callable[[Path], None], code: str, text: str, tmp_path: Path
) -> None:
    write_data(tmp_path)
    spoil(tmp_path / "images" / "a1.png")
    with pytest.raises(InputError, match=rf"images/a1\.png: .*({text}|[Ee]mpty)") as caught:
        find(tmp_path / "images")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_named_like_a_picture_is_a_folder(tmp_path: Path) -> None:
    write_data(tmp_path)
    (tmp_path / "images" / "a1.png").unlink()
    (tmp_path / "images" / "a1.png").mkdir()
    assert len(find_images(tmp_path / "images")) == 2
    with pytest.raises(InputError, match=r"1 mask has no image: masks/a1\.png"):
        read_layout("folders", tmp_path)


def test_links_in_circles_end(tmp_path: Path) -> None:
    write_data(tmp_path / "data")
    (tmp_path / "data" / "images" / "up").symlink_to("..")
    (tmp_path / "data" / "self").symlink_to("self")
    (tmp_path / "data" / "there").symlink_to(tmp_path / "back")
    (tmp_path / "back").symlink_to(tmp_path / "data" / "there")
    draft = read_layout("folders", tmp_path / "data")
    assert [case.image for case in draft.manifest.cases] == [(f"images/a{number}.png",) for number in range(3)]
    assert len(find_images(tmp_path / "data" / "images")) == 3


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a folder that other users may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="unreadable"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


# Rights are dropped after everything is imported, because other users may not be allowed to start this Python.
PLAIN = """
import os, sys
from pathlib import Path
from pipeline.commands.cli import main
from pipeline.datasets import find_images
warm, task, *words = sys.argv[1:]
main(["dataset", "build", "folders", warm, "-o", warm + ".json"])
find_images(warm + "/images")
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.stdout.flush()
print("----", file=sys.stderr)
sys.exit(main(words) if task == "main" else find_images(words[0]) and 0)
"""


def run_plainly(folder: Path, task: str, *words: str) -> tuple[int, list[str]]:
    """Run a command as a user without special rights, and return its exit code and the lines of its stderr."""
    warm = folder / "warm"
    if not warm.is_dir():
        write_data(warm)
    # Without the measurement of coverage, which this user cannot write.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    environment = {**kept, "XDG_CACHE_HOME": str(folder / "cache"), "HOME": str(folder)}
    command = [sys.executable, "-c", PLAIN, str(warm), task, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    return done.returncode, done.stderr.split("----\n")[1].splitlines()


def test_files_and_folders_without_permission(open_folder: Path) -> None:
    root, manifest = open_folder / "data", open_folder / "m.json"
    write_data(root)
    locked = root / "images" / "a1.png"
    locked.chmod(0)
    if os.geteuid() == 0:
        os.chown(locked, NOBODY, NOBODY)
    build = ["dataset", "build", "folders", str(root), "-o", str(manifest)]
    code, lines = run_plainly(open_folder, "main", *build)
    line = lines[-1]
    assert code == 1
    assert "unreadable-file images/a1.png [a1]: no permission to read it as user" in line
    assert run_plainly(open_folder, "main", *build, "--skip-broken")[0] == 0
    assert [case.case_id for case in read_manifest(manifest).cases] == ["a0", "a2"]
    code, lines = run_plainly(open_folder, "find", str(root / "images"))
    assert code == 1
    assert f"InputError: {locked}: no permission to read it as user" in lines[-1]
    # The hint, followed.
    (command,) = [part for part in line.split("; ") if part.startswith("chmod")]
    assert command.split() == ["chmod", "u+r", str(locked)]
    subprocess.run(command.split(), check=True)
    assert run_plainly(open_folder, "main", *build, "--overwrite")[0] == 0
    assert len(read_manifest(manifest).cases) == 3
    (root / "masks").chmod(0)
    _, lines = run_plainly(open_folder, "main", *build)
    (root / "masks").chmod(0o755)
    assert f"cannot read the folder {root / 'masks'}: permission denied" in lines[-1]
    assert main([*build]) == 0
