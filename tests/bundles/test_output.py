"""What a run prints, word for word: its progress and its result, and nothing that could be taken for a problem."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.bundles.conftest import ROOT, write_phantom
from tests.forked import run_module

CONFIGS = "bundles/isic_unet/configs"
# Times of the day, durations, and scores of an untrained network.
_CHANGING = [
    (r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ - ", ""),
    (r"^\d\d:\d\d:\d\d ", ""),
    (r"\b\d+(\.\d)? (s|min)\b", "TIME"),
    (r"(loss|dice_image|best) \d+\.\d+", r"\1 N"),
    (r"in epoch [12]$", "in epoch N"),
    (r" \(best( N)?\)", " (BEST)"),
]


def read_lines(text: str) -> list[str]:
    lines = text.splitlines()
    for pattern, word in _CHANGING:
        lines = [re.sub(pattern, word, line) for line in lines]
    return [line for line in lines if line]


def list_words(*names: str, **values: object) -> list[str]:
    files = str([f"{CONFIGS}/{name}.json" for name in (*names, "phantom")])
    options = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    return ["run", "--config_file", files, *options, "--amp", "false"]


def train(data: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Train in a new interpreter, whose lines of MONAI count too."""
    line = [sys.executable, "-m", "monai.bundle", *list_words("train", **data, output_dir=folder)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def test_what_a_training_an_evaluation_and_a_prediction_print(tmp_path: Path) -> None:
    data, folder = write_phantom(ROOT / "bundles/isic_unet", tmp_path, images=8, size=64), tmp_path / "out"
    done = train(data, folder)
    assert done.returncode == 0, done.stderr
    (trust,) = read_lines(done.stderr)  # MONAI's; a warning that matters
    assert re.match(r"parsing config_file .* Only proceed if this config is from a source you trust", trust)
    iterations = re.search(r"on \S+, (\d+) iterations each", done.stdout)
    assert iterations
    lines = read_lines(done.stdout)
    assert lines == [
        f"INFO - Setting logging properties based on config: {CONFIGS}/logging.conf.",
        "INFO - --- input summary of monai.bundle.scripts.run ---",
        *(f"INFO - > {key}: {value!r}" for key, value in data.items()),
        f"INFO - > output_dir: '{folder}'",
        "INFO - > amp: False",
        "INFO - ---",
        *lines[-6:-4],
        f"INFO training: epochs 1 to 2 on cpu, {iterations[1]} iterations each",
        "INFO epoch 1/2  loss N  dice_image N (BEST)  TIME, TIME left",
        "INFO epoch 2/2  loss N  dice_image N (BEST)  TIME",
        "INFO 2 epochs in TIME; best dice_image N in epoch N",
    ]
    assert [re.sub(r"\d+", "N", line) for line in lines[-6:-4]] == [
        "INFO split train: N cases",
        "INFO split val: N cases",
    ]
    images = Path(data["dataset_dir"]) / "ISIC2018_Task1-2_Test_Input"
    count = len(list(images.glob("*.jpg")))
    checkpoint = folder / "model.pt"
    words = list_words("train", "evaluate", **data, checkpoint=checkpoint, output_dir=tmp_path / "scores")
    evaluated = run_module("monai.bundle", *words, cwd=ROOT)
    last = read_lines(evaluated.stdout)[-1]
    assert re.match(r"INFO \d+ cases in TIME, TIME each: dice_image N, iou_image ", last), evaluated.stdout
    words = list_words("inference", input=images, checkpoint=checkpoint, output_dir=tmp_path / "masks")
    predicted = run_module("monai.bundle", *words, cwd=ROOT)
    # MONAI's own lines come only where it is imported anew.
    assert [line for line in read_lines(predicted.stdout) if not line.startswith("INFO - ")] == [
        f"INFO weights from {checkpoint}",
        f"INFO {count} cases in TIME, TIME each",
    ]
    for result in (evaluated, predicted):
        # In a fork Python adds where a warning comes from, in a second line.
        (trust,) = [line for line in result.stderr.splitlines() if not line.startswith("  ")]
        assert "parsing config_file" in trust
        assert not re.search("resuming|best metric|Epoch|nvImageCodec", result.stdout)
    assert not re.search("\r|\x1b", done.stderr + done.stdout + evaluated.stderr + predicted.stderr)
