"""Time and memory of a training step against a plain loop in float32 with the same network.

Ours is what a bundle's ``train.json`` says: its network in its layout, its loss, its optimiser and its inferer, which
computes in bfloat16 where the hardware can. The peer is the loop of a tutorial: the same network with the same weights,
loss and kind of optimiser, float32, no layout, nothing fused. UNet++ is compared with other networks by
``unetplusplus.py``. Data are random: what loading and augmentation cost is measured by another script.

A row counts if the first losses of both sides agree within 1 %, as they start from the same weights. Seconds are those
of the processor (on a GPU of the clock), one thread, medians of rounds in turns. Memory is the peak of a process of its
own that trains two steps (Linux).

Example:
    python benchmarks/training_step.py --rounds 3 --json docs/benchmarks/training_step.json
    python benchmarks/training_step.py --profile lgg_attunet
"""

import argparse
import copy
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from clocks import DEVICE, take_turns
from monai.bundle import ConfigParser
from records import Row, build_record, write_record
from torch.profiler import ProfilerActivity, profile, record_function

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.01


@dataclass(frozen=True)
class Task:
    """A bundle, overrides of it, and how many samples a step has."""

    bundle: str
    override: str | None = None
    batch: int = 4

    def read(self) -> ConfigParser:
        """Read the configs of the training."""
        folder = ROOT / "bundles" / self.bundle
        config = ConfigParser()
        names = ["train.json", *([self.override] if self.override else [])]
        config.read_config([str(folder / "configs" / name) for name in names])
        config["bundle_root"] = str(folder)
        return config

    def describe(self, config: ConfigParser) -> str:
        """Name the task, its network and the size of a step."""
        size = " x ".join(map(str, [self.batch, config["network_def"]["in_channels"], *find_size(config)]))
        name = config["network_def"]["_target_"].rpartition(".")[2]
        return f"{self.bundle}{f' with {self.override}' if self.override else ''}: {name}, {size}"


ORIGIN = Task("lgg_attunet", "origin.json")
TIMED = (ORIGIN, Task("lgg_attunet"))
WEIGHED = (
    Task("isic_unetpp", "resnet34.json", batch=8),
    Task("lgg_attunet", batch=8),
    Task("hippocampus_segresnet", batch=2),
)


def find_size(config: ConfigParser) -> list[int]:
    """Return the size of a sample: the original recipe takes whole slices of 256 x 256."""
    dims = config["network_def"]["spatial_dims"]
    if config["network_def"]["in_channels"] == 3 and dims == 2:
        return [256, 256]
    return list(config["roi_size"][:dims])


def make_batch(config: ConfigParser, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make random images and labels."""
    shape, generator = find_size(config), torch.Generator().manual_seed(0)
    image = torch.randn(batch, config["network_def"]["in_channels"], *shape, generator=generator)
    label = torch.rand(batch, 1, *shape, generator=generator) > 0.9
    return image.to(DEVICE), label.float().to(DEVICE)


def make_ours(config: ConfigParser, image: torch.Tensor, label: torch.Tensor) -> Callable[[], float]:
    """Return a step as the bundle trains."""
    network, loss = config.get_parsed_content("network").train(), config.get_parsed_content("loss")
    optimizer, inferer = config.get_parsed_content("optimizer"), config.get_parsed_content("train#inferer")

    def step() -> float:
        with record_function("forward"):
            logits = inferer(image, network)
        return finish_step(loss, logits, label, optimizer)

    return step


def make_plain(config: ConfigParser, image: torch.Tensor, label: torch.Tensor) -> Callable[[], float]:
    """Return a step as a tutorial trains, from the same weights."""
    network = copy.deepcopy(config.get_parsed_content("network")).to(memory_format=torch.contiguous_format).train()
    loss, ours = config.get_parsed_content("loss"), config.get_parsed_content("optimizer")
    optimizer = type(ours)(network.parameters(), lr=ours.defaults["lr"], weight_decay=ours.defaults["weight_decay"])
    return lambda: finish_step(loss, network(image), label, optimizer)


def finish_step(loss: Any, logits: Any, label: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
    """Compute the loss and train; returns the loss."""
    with record_function("loss"):
        value = loss(logits, label)
    optimizer.zero_grad()
    with record_function("backward"):
        value.backward()
    with record_function("optimiser"):
        optimizer.step()
    return float(value.detach())


MAKERS = {"plain": make_plain, "ours": make_ours}


def time_task(task: Task, rounds: int, goal: float | None) -> Row:
    """Time both sides in turns."""
    torch.manual_seed(0)
    config = task.read()
    data = make_batch(config, task.batch)
    steps = {name: make(config, *data) for name, make in MAKERS.items()}
    losses: dict[str, list[float]] = {name: [] for name in steps}
    turns = take_turns({name: lambda name=name: losses[name].append(steps[name]()) for name in steps}, rounds)
    ratio, spread = turns.ratio("plain", "ours")
    first = {name: found[0] for name, found in losses.items()}
    difference = abs(first["plain"] - first["ours"]) / abs(first["plain"])
    return Row(
        what=f"a sample of {task.describe(config)}",
        peer="the same network, plain float32 loop",
        peer_value=turns.median("plain") / task.batch,
        ours=turns.median("ours") / task.batch,
        ratio=ratio,
        spread=spread,
        goal=goal,
        accuracy=f"first losses differ by {difference:.2%} (at most {TOLERANCE:.0%})",
        counts=difference <= TOLERANCE,
    )


def measure_memory(task: Task, name: str) -> float:
    """Return the peak of this process in GB after two steps."""
    torch.set_num_threads(1)
    config = task.read()
    step = MAKERS[name](config, *make_batch(config, task.batch))
    for _ in range(2):
        step()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM:"))


def weigh_task(task: Task) -> Row:
    """Compare the memory of both sides, each in a process of its own."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        peaks = {name: pool.apply(measure_memory, (task, name)) for name in MAKERS}
    return Row(
        what=f"memory of {task.describe(task.read())}, GB",
        peer="the same network, plain float32 loop",
        peer_value=peaks["plain"],
        ours=peaks["ours"],
        goal=1.7,
        accuracy="the whole process, with torch and MONAI",
    )


def print_profile(task: Task) -> None:
    """Print where the time of our step goes: its parts, and the operators (seconds of the clock)."""
    config = task.read()
    step = make_ours(config, *make_batch(config, task.batch))
    step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step()
    averages = found.key_averages()
    for name in ("forward", "loss", "backward", "optimiser"):
        seconds = sum(event.cpu_time_total for event in averages if event.key == name) / 1e6
        print(f"{name:<12}{seconds:.3f} s")
    print(averages.table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=50))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default: 3)")
    parser.add_argument("--profile", metavar="BUNDLE", help="print a profile of the bundle's step instead")
    parser.add_argument("--override", help="with --profile: a config of the bundle, such as origin.json")
    parser.add_argument("--json", type=Path, help="write the record here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.profile:
        print_profile(Task(arguments.profile, arguments.override))
        return
    rows = []
    for task in TIMED:
        rows.append(time_task(task, arguments.rounds, 2.5 if task is ORIGIN else None))
        print_row(rows[-1])
    for row in map(weigh_task, WEIGHED):
        rows.append(row)
        print_row(row)
    write_record(arguments.json, build_record("training_step", "Training step", "s of processor time a sample", rows))


def print_row(row: Row) -> None:
    """Print a comparison."""
    assert row.peer_value is not None
    assert row.ours is not None
    ratio = row.ratio or row.peer_value / row.ours
    note = "" if row.counts else "  does not count"
    print(f"{row.what}\n    {row.peer_value:.3f} {row.ours:.3f} ratio {ratio:.2f}  {row.accuracy}{note}", flush=True)


if __name__ == "__main__":
    main()
