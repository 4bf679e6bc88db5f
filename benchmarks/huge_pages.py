"""A training step with and without huge pages for torch's large blocks of memory (``THP_MEM_ALLOC_ENABLE=1``, Linux).

Every side is a process of its own, in turns, because torch reads the switch once. Network, loss and optimiser of a
bundle train on random images in bfloat16 where it does; seconds of the processor, and the peak of the memory of the
process. Accuracy condition: the losses of both sides are equal to the last digit, as only the memory is another one.

Example:
    python benchmarks/huge_pages.py --rounds 3 --json docs/benchmarks/huge_pages.json
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from clocks import read_clock
from monai.bundle import ConfigParser
from records import Row, build_record, write_record

from pipeline.inferers import supports_bfloat16

ROOT = Path(__file__).resolve().parents[1]
#: Bundle, shape of a sample, samples a step
CASES = {
    "lgg_attunet": ((9, 192, 192), 8),
    "isic_unetpp": ((3, 256, 256), 8),
    "hippocampus_segresnet": ((1, 48, 64, 48), 2),
}
STEPS = 5


def train(bundle: str) -> dict[str, float]:
    """Return the median of the seconds of a step, the last loss and the peak of the memory in MiB."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = ConfigParser()
    names = ["train.json", *(["resnet34.json"] if bundle == "isic_unetpp" else [])]
    config.read_config([str(ROOT / f"bundles/{bundle}/configs" / name) for name in names])
    config.update({"bundle_root": str(ROOT / "bundles" / bundle), "device": "$torch.device('cpu')"})
    network, optimizer = config.get_parsed_content("network"), config.get_parsed_content("optimizer")
    loss_function, (shape, count) = config.get_parsed_content("loss"), CASES[bundle]
    image = torch.randn(count, *shape)
    image = image.contiguous(memory_format=torch.channels_last) if image.ndim == 4 else image
    label = (torch.rand(count, 1, *shape[1:]) > 0.7).float()
    seconds = []
    for _ in range(STEPS + 1):
        start = read_clock()
        with torch.autocast("cpu", torch.bfloat16, enabled=supports_bfloat16("cpu")):
            logits = network(image)
        loss = loss_function(logits.float(), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(read_clock() - start)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"seconds": statistics.median(seconds[1:]), "loss": float(loss.detach()), "MiB": int(peak.split()[1]) / 1024}


def run(bundle: str, switch: str) -> dict[str, float]:
    """Train in another process with the switch on or off."""
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": switch, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, __file__, "--child", bundle]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(bundle: str, rounds: int) -> list[Row]:
    """Return the rows of time and memory of one bundle."""
    results: dict[str, list[dict[str, Any]]] = {"0": [], "1": []}
    for turn in range(rounds):
        for switch in ("0", "1") if turn % 2 else ("1", "0"):
            results[switch].append(run(bundle, switch))
    values = {key: {s: [one[key] for one in results[s]] for s in results} for key in ("seconds", "MiB", "loss")}
    equal = len({*values["loss"]["0"], *values["loss"]["1"]}) == 1
    rows = []
    for key, what in (("seconds", "training step"), ("MiB", "peak memory, MiB")):
        ratios = [one / other for one, other in zip(values[key]["0"], values[key]["1"], strict=True)]
        off, on = (statistics.median(values[key][switch]) for switch in ("0", "1"))
        spread = (min(ratios), max(ratios))
        accuracy = "losses equal" if equal else "losses differ"
        name = f"{bundle}: {what}"
        rows.append(Row(name, "without", off, on, None, statistics.median(ratios), spread, accuracy, equal))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", nargs="+", choices=CASES, default=list(CASES), help="default: all three")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side (default: 3)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(train(arguments.child)))
        return
    rows = []
    for bundle in arguments.bundles:
        for row in compare(bundle, arguments.rounds):
            rows.append(row)
            print(
                f"{row.what}: {row.peer_value:.3f} without, {row.ours:.3f} with, ratio {row.ratio:.2f}; {row.accuracy}"
            )
    title, unit = "Huge pages for torch's memory", "s of processor time; MiB where it says so"
    write_record(arguments.json, build_record("huge_pages", title, unit, rows))


if __name__ == "__main__":
    main()
