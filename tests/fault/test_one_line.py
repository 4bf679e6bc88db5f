"""Commands that end for lack of memory, of files or of a folder: one line says what, which case, and what to type."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import mischief
import pytest

from pipeline.commands.cli import main
from pipeline.datasets.phantoms import write_isic_phantom
from tests.disks import mount_tmpfs

pytestmark = [pytest.mark.fault, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = "bundles/isic_unet/configs"
VALIDATION_MASKS = "ISIC2018_Task1_Validation_GroundTruth"
MASKS, IMAGES = "ISIC2018_Task1_Training_GroundTruth", "ISIC2018_Task1-2_Training_Input"
TEST_IMAGES = "ISIC2018_Task1-2_Test_Input"
# Lines of a log that say nothing about the end; torch's advice on workers comes on a machine with one core.
_CHATTER = re.compile(
    r"^\s*$|^\d\d:\d\d:\d\d |^\d{4}-\d\d-\d\d |^parsing config_file|nvImageCodec|^Loading dataset: "
    r"|^This DataLoader will create \d+ worker processes"
)


class Ended:
    """How a command ended."""

    def __init__(self, code, output, folder):
        self.code, self.folder = code, folder
        self.lines = [line for line in output.splitlines() if not _CHATTER.search(line)]
        self.traced = "Traceback" in output

    @property
    def line(self):
        """The one line that it ended with."""
        assert self.code == 1, self.lines
        assert not self.traced, self.lines
        assert len(self.lines) == 1, self.lines
        return self.lines[0]


@pytest.fixture(scope="session")
def lesions(tmp_path_factory):
    """Folder with a dataset and its manifest. Shared: copy before changing it."""
    return write_isic_phantom(tmp_path_factory.mktemp("lesions"), images=8, size=64).parent


@pytest.fixture
def data(lesions, tmp_path):
    """A dataset to harm."""
    return Path(shutil.copytree(lesions, tmp_path / "data"))


@pytest.fixture
def run(start, tmp_path, lesions):
    """Run a config of a bundle on the phantom, changed by an override, and return how it ended."""

    def launch(override=None, data=lesions, files=("train.json", "phantom.json"), output=tmp_path / "out", **knobs):
        paths = [f"{BUNDLE}/{name}" for name in files]
        if override:
            paths.append(str(tmp_path / "override.json"))
            Path(paths[-1]).write_text(json.dumps(override))
        place = {"dataset_dir": data / "isic2018", "manifest": data / "manifest.json", "output_dir": output}
        if files[0] == "inference.json":
            place = {"input": data / "isic2018" / TEST_IMAGES, "output_dir": output}
        values = {**place, "amp": False, **knobs}
        words = [
            "--config_file",
            str(paths),
            *(word for key, value in values.items() for word in (f"--{key}", str(value))),
        ]
        child = start(mischief.run_command, words, str(ROOT))
        return Ended(child.join(150), child.output, output)

    return launch


def harm(deed, **options):
    """Return an override that does harm in the second iteration of a training."""
    return {"+train#handlers": [{"_target_": "mischief.Mischief", "deed": deed, **options}]}


def harm_after_check(deed, place="train", **options):
    """Return an override that does harm between the check of the files and their loading."""
    more = {"_target_": "mischief.list_then", "deed": deed, **options}
    return {f"{place}#dataset#data#{key}": value for key, value in more.items()}


def find_command(line):
    """Return the words of the command that a line proposes."""
    return shlex.split(re.search(r"`python -m pipeline (.*?)`", line)[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_mask_that_vanishes_while_training(run, data, workers, capsys):
    masks = data / "isic2018" / MASKS
    ended = run(harm("remove", path=str(masks)), data, cache_rate=0.0, num_workers=workers)
    pattern = (
        rf"cannot read {masks}/(ISIC_\d+)_\w+\.png: no such file or directory \(case (\S+); epoch 2, iteration 3\); "
    )
    match = re.match(pattern, ended.line)
    assert match, ended.line
    assert match[1] == match[2]
    assert ended.line.endswith(f"trace in {ended.folder}/error_trace.txt")
    assert "No such file" in (ended.folder / "error_trace.txt").read_text()
    record = json.loads((ended.folder / "run.json").read_text())
    assert (record["status"], record["error"]) == ("failed", ended.line)
    assert main(find_command(ended.line)) == 1
    assert f"{match[1]}_segmentation.png" in capsys.readouterr().out


def test_a_picture_that_is_replaced_by_garbage(run, data, capsys):
    pictures = data / "isic2018" / IMAGES
    line = run(harm("garble", path=str(pictures)), data, cache_rate=0.0, num_workers=2).line
    match = re.match(rf"cannot read {pictures}/(ISIC_\d+)\.jpg: cannot identify image file \(case (\S+); epoch", line)
    assert match, line
    assert match[1] == match[2]
    assert main(find_command(line)) == 1
    assert match[1] in capsys.readouterr().out


def test_a_mask_that_vanishes_between_check_and_cache(run, data):
    masks = data / "isic2018" / MASKS
    ended = run(harm_after_check("remove", path=str(masks)), data)
    assert re.match(rf"cannot read {masks}/(ISIC_\d+)_.*: no such file.* \(case \1\); check the files with", ended.line)


def test_no_memory_while_training_and_with_a_smaller_batch(run, tmp_path):
    little = harm("memory", amount=40_000_000)
    line = run(little, batch_size=6, image_size=[256, 256], cache_rate=0.0).line
    assert re.match(r"memory \(RAM\) is full.* \(cases ISIC_\d+, .* more; epoch 1, iteration 2\); lower ", line) or (
        re.match(r"memory \(RAM\) is full.* \(case", line)
    ), line
    assert "lower --batch_size (now 6) or --image_size (now [256, 256])" in line
    assert run(little, output=tmp_path / "small", batch_size=1, image_size=[64, 64], cache_rate=0.0).code == 0


def test_no_memory_while_the_cache_is_filled(run, tmp_path):
    little = harm_after_check("memory", amount=150_000_000)
    line = run(little, image_size=[2048, 2048]).line
    assert re.match(r"memory \(RAM\) is full", line)
    assert "lower --image_size (now [2048, 2048]) or --cache_rate (now 1.0)" in line
    assert run(little, output=tmp_path / "small", max_epochs=1, cache_rate=0.0).code == 0


def test_no_memory_of_the_gpu(run):
    line = run(harm("gpu")).line
    assert re.match(r"memory of the GPU is full, 20\.00 MiB more were needed \(cases ISIC_\d+, ISIC_\d+; epoch 1", line)
    assert "; lower --batch_size (now 2) or --image_size (now [64, 64]); trace in " in line


def test_a_worker_that_is_killed(run):
    line = run(harm("kill worker", iteration=1), num_workers=2, cache_rate=0.5).line
    assert re.match(r"worker \d+ of the loader was killed \(SIGKILL\).*epoch 1, iteration 2\); ", line)
    assert "lower --num_workers (now 2), --batch_size (now 2) or --cache_rate (now 0.5)" in line


def test_no_further_file_may_be_opened(run):
    line = run(harm("files"), cache_rate=0.0).line
    assert re.match(r"too many open files, \d+ are allowed .*; allow more in the shell with `ulimit -n 8192`", line)


@pytest.fixture
def read_only(tmp_path):
    """A folder that nobody can write to, the superuser included."""
    with mount_tmpfs(tmp_path / "read_only", "ro,size=1m") as folder:
        yield folder


def test_an_output_folder_that_is_read_only(run, read_only, tmp_path):
    line = run(output=read_only / "out").line
    assert line == (
        f"cannot write to {read_only}/out: read-only file system; "
        "mend that folder, or choose another one with --output_dir"
    )
    assert run(output=tmp_path / "out", max_epochs=1).code == 0


def test_an_output_folder_that_is_a_file(run, tmp_path):
    (tmp_path / "file").touch()
    assert re.match(
        rf"cannot write to {tmp_path}/file.*: (file exists|not a directory); ", run(output=tmp_path / "file").line
    )


@pytest.mark.parametrize("deed", ["remove folder", "replace folder"])
def test_an_output_folder_that_vanishes(run, tmp_path, deed):
    line = run(harm(deed, path=str(tmp_path / "out"))).line
    assert re.match(
        rf"cannot write to {tmp_path}/out\S*: (no such file or directory|not a directory) \(epoch 1, iter", line
    )


def test_a_mistake_keeps_its_trace_and_says_what_happened_last(run):
    ended = run(harm("bug"))
    assert (ended.code, ended.traced) == (1, True)
    assert ended.lines[-1] == "KeyError: 'a mistake'; the trace above shows where"


def test_an_evaluation(run, data, tmp_path):
    trained = run(max_epochs=1, val_interval=1)
    files = ("train.json", "evaluate.json", "phantom.json")
    masks = data / "isic2018" / VALIDATION_MASKS
    harmed = harm_after_check("remove", "validate", path=str(masks))
    options = {"files": files, "checkpoint": trained.folder / "model.pt", "output": tmp_path / "scores"}
    line = run(harmed, data, **options).line
    assert re.match(rf"cannot read {masks}/(ISIC_\d+)_.*: no such file.* \(case \1; epoch 1.*\); check the files", line)


def test_predictions(run, data, read_only, tmp_path):
    """An image that vanishes, a folder that cannot be written, and a checkpoint that is cut off."""
    model = run(max_epochs=1, val_interval=1).folder / "model.pt"
    options = {"files": ("inference.json", "phantom.json"), "checkpoint": model}
    line = run(data=data, **options, output=read_only / "masks").line
    assert f"cannot write to {read_only}/masks: read-only file system; choose another folder" in line
    images = data / "isic2018" / TEST_IMAGES
    harmed = {"+handlers": [{"_target_": "mischief.Mischief", "deed": "remove", "iteration": 1, "path": str(images)}]}
    line = run(harmed, data, **options, output=tmp_path / "masks").line
    assert re.match(rf"(cannot read )?{images}/(ISIC_\d+)\.jpg: no such file or directory \(case \2", line), line
    model.write_bytes(model.read_bytes()[:-1000])
    line = run(**options, output=tmp_path / "others").line
    assert line.startswith(f"{model} is truncated: its end is missing")


@pytest.mark.slow
def test_the_command_itself(read_only, lesions):
    """In a process of its own, as users start it; the tests above fork one that has imported everything."""
    config = f"['{BUNDLE}/train.json','{BUNDLE}/phantom.json']"
    knobs = {
        "dataset_dir": lesions / "isic2018",
        "manifest": lesions / "manifest.json",
        "output_dir": read_only / "out",
    }
    words = ["--config_file", config, *(word for key, value in knobs.items() for word in (f"--{key}", str(value)))]
    command = [sys.executable, "-m", "monai.bundle", "run", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"cannot write to {read_only}/out: read-only file system;")
    assert "Traceback" not in done.stderr
