"""Compare a training step of our UNet++ (ResNet-34 encoder) with MONAI's BasicUNetPlusPlus, in turns in one process.

The goal is two times the speed of MONAI's network as it comes (float32, its default features) at equal input, batch,
loss and optimizer, both with an output of the image's size. They are different networks: the GFLOP of a forward pass
and the parameters are printed next to the times.

The other peer is the UNet++ of segmentation-models-pytorch, the same network, in the same precision and layout and with
the same optimizer; it counts if GFLOP and parameters are equal. It is left out unless it is there: ``pip install
--no-deps --target peer segmentation-models-pytorch timm torchvision``, and ``PYTHONPATH=peer``. Of torchvision it needs
Python alone, so a build for another torch will do.

A ratio is the median over the rounds of (MONAI's time / ours) of the same round, so that a load that comes and goes
affects both. Wall time is the time a user waits; CPU time shows how far other processes disturbed it (on a GPU it is
the time of the clock, after all work is done). Differences below 15 % do not count. Building the networks, the data and
one step of each to warm up are not counted. After each step the same network predicts one image, whose CPU time is in
the table too.

With ``--encoders`` our UNet++ is compared with itself instead: each encoder in the settings of a training, the ratios
to the first of them.

Example:
    python benchmarks/unetplusplus.py --batch 4 --size 256 --repeats 5 --threads 1
    python benchmarks/unetplusplus.py --batch 8 --size 256 --threads 1 --encoders resnet34 resnet18 efficientnet-lite0
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from clocks import DEVICE, read_clock
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNetPlusPlus
from records import Row, build_record, write_record
from torch.utils.flop_counter import FlopCounterMode

from pipeline.inferers import supports_bfloat16
from pipeline.networks import UNetPlusPlus

STOCK_BFLOAT16 = "MONAI BasicUNetPlusPlus, bfloat16, fused AdamW"
BEST, BEST_BFLOAT16 = "ours, float32, channels last, fused AdamW", "ours, bfloat16, channels last, fused AdamW"
STOCK = "MONAI BasicUNetPlusPlus, float32 (as it comes)"
SMP = "segmentation-models-pytorch, float32, channels last, fused AdamW"
SMP_BFLOAT16 = "segmentation-models-pytorch, bfloat16, channels last, fused AdamW"
#: Pairs of the same network: the peer and ours.
TWINS = {SMP: BEST, SMP_BFLOAT16: BEST_BFLOAT16}
#: The ratio that the project wants: to MONAI's network in float32, and to the same network.
GOAL, GOAL_TWIN = 2.0, 1.2


@dataclass
class Contestant:
    """A network with its layout and precision, and the times of its steps."""

    network: torch.nn.Module
    bfloat16: bool = False
    channels_last: bool = False
    fused: bool = False
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    forward: list[float] = field(default_factory=list)  # CPU time of one image in evaluation

    def prepare(self, image: torch.Tensor, label: torch.Tensor) -> Callable[[], float]:
        """Return a function that trains one step and returns the loss."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        image = image.contiguous(memory_format=layout)
        network = self.network.to(DEVICE, memory_format=layout).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=self.fused)
        loss_function = DiceCELoss(sigmoid=True)

        def step() -> float:
            optimizer.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.bfloat16):
                output = take_one(network(image))
            loss = loss_function(output.float(), label)
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        return step


def take_one(output: Any) -> torch.Tensor:
    """Return the tensor; MONAI's network wraps it in a list."""
    return output[0] if isinstance(output, list) else output


def make_contestants(with_bfloat16: bool) -> dict[str, Contestant]:
    """Make both networks in the settings that are compared, MONAI's own first."""

    def make_monai() -> torch.nn.Module:
        return BasicUNetPlusPlus(spatial_dims=2, in_channels=3, out_channels=1)

    def make_ours() -> torch.nn.Module:
        return UNetPlusPlus(2, 3, 1, encoder="resnet34")

    contestants = {
        STOCK: Contestant(make_monai()),
        "ours, float32": Contestant(make_ours()),
        BEST: Contestant(make_ours(), channels_last=True, fused=True),
    }
    make_smp = find_smp()
    if make_smp:
        contestants[SMP] = Contestant(make_smp(), channels_last=True, fused=True)
    if make_smp and with_bfloat16:
        contestants[SMP_BFLOAT16] = Contestant(make_smp(), bfloat16=True, channels_last=True, fused=True)
    if with_bfloat16:
        contestants[STOCK_BFLOAT16] = Contestant(make_monai(), bfloat16=True, fused=True)
        contestants[BEST_BFLOAT16] = Contestant(make_ours(), bfloat16=True, channels_last=True, fused=True)
    return contestants


def find_smp() -> Callable[[], torch.nn.Module] | None:
    """Return what makes the same network of segmentation-models-pytorch; None where it is not installed."""
    # It registers operators of torchvision's own library, which loads only beside the torch that it was built for.
    sys.modules["torchvision._meta_registrations"] = ModuleType("torchvision._meta_registrations")
    try:
        from segmentation_models_pytorch import UnetPlusPlus
    except ImportError:
        return None
    return lambda: UnetPlusPlus("resnet34", encoder_weights=None, in_channels=3, classes=1)


def make_encoder_contestants(
    with_bfloat16: bool, encoders: list[str], decoders: list[list[int]]
) -> dict[str, Contestant]:
    """Make our network with each encoder and each number of the decoder's channels."""
    return {
        f"{encoder}, decoder {' '.join(map(str, decoder)) or 'as it comes'}": Contestant(
            UNetPlusPlus(2, 3, 1, encoder=encoder, decoder_channels=decoder or None),
            bfloat16=with_bfloat16,
            channels_last=True,
            fused=True,
        )
        for encoder in encoders
        for decoder in decoders
    }


def check_outputs(contestants: dict[str, Contestant], image: torch.Tensor) -> dict[str, tuple[float, int]]:
    """Check that each network's output has the image's size and is finite; return its GFLOP per image and parameters.

    Raises:
        SystemExit: one is not as it must be, so no speed is printed.
    """
    facts = {}
    for name, contestant in contestants.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            output = take_one(contestant.network.to(DEVICE).eval()(image[:1]))
        if output.shape != (1, 1, *image.shape[2:]) or not bool(output.isfinite().all()):
            raise SystemExit(f"{name}: output {tuple(output.shape)} is not finite or not of the image's size")
        parameters = sum(parameter.numel() for parameter in contestant.network.parameters())
        facts[name] = (counter.get_total_flops() / 1e9, parameters)
    return facts


def run_rounds(contestants: dict[str, Contestant], image: torch.Tensor, label: torch.Tensor, repeats: int) -> None:
    """Let all take turns, in alternating order, and note their times.

    Raises:
        SystemExit: a loss is not finite.
    """
    steps = {name: contestant.prepare(image, label) for name, contestant in contestants.items()}
    for number in range(repeats + 1):
        order = list(steps) if number % 2 == 0 else list(reversed(steps))
        for name in order:
            wall, cpu = time.perf_counter(), read_clock()
            loss = steps[name]()
            cpu, wall = read_clock() - cpu, time.perf_counter() - wall
            if not loss < float("inf"):
                raise SystemExit(f"{name}: the loss is {loss}")
            forward = time_forward(contestants[name], image[:1])
            if number > 0:  # the first round warms up
                contestants[name].wall.append(wall)
                contestants[name].cpu.append(cpu)
                contestants[name].forward.append(forward)


def time_forward(contestant: Contestant, image: torch.Tensor) -> float:
    """Return the CPU time of a prediction."""
    layout = torch.channels_last if contestant.channels_last else torch.contiguous_format
    network, image = contestant.network.eval(), image.contiguous(memory_format=layout)
    start = read_clock()
    with torch.inference_mode(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=contestant.bfloat16):
        network(image)
    duration = read_clock() - start
    network.train()
    return duration


def summarise(contestant: Contestant, stock: Contestant) -> dict[str, float]:
    """Return median times in seconds, and the ratios to the stock network with their spread."""

    def compare(ours: list[float], theirs: list[float]) -> list[float]:
        return sorted(other / own for own, other in zip(ours, theirs, strict=True))

    wall, cpu = compare(contestant.wall, stock.wall), compare(contestant.cpu, stock.cpu)
    return {
        "wall_s": statistics.median(contestant.wall),
        "cpu_s": statistics.median(contestant.cpu),
        "forward_cpu_s": statistics.median(contestant.forward),
        "ratio_wall": statistics.median(wall),
        "ratio_cpu": statistics.median(cpu),
        "ratio_cpu_min": cpu[0],
        "ratio_cpu_max": cpu[-1],
    }


def make_rows(
    results: dict[str, dict[str, float]],
    contestants: dict[str, Contestant],
    facts: dict[str, tuple[float, int]],
    size: str,
) -> list[Row]:
    """Return the rows of a record: each of ours against MONAI's as it comes, and the same against the same."""
    first, rows = next(iter(results)), []
    pairs = [(first, name) for name in list(results)[1:] if name != STOCK_BFLOAT16 and name not in TWINS]
    pairs += [(STOCK_BFLOAT16, BEST_BFLOAT16)] if STOCK_BFLOAT16 in results else []
    pairs += [pair for pair in TWINS.items() if pair[0] in results]
    for peer, ours in pairs:
        theirs, mine = contestants[peer].cpu, contestants[ours].cpu
        ratios = [other / own for other, own in zip(theirs, mine, strict=True)]
        is_twin, counts = peer in TWINS, peer not in TWINS or facts[peer] == facts[ours]
        accuracy = "outputs of the image's size, finite losses; the networks differ"
        if is_twin:
            gflop, parameters = facts[peer]
            accuracy = f"the same network: {gflop:.1f} GFLOP, {parameters:,} parameters on both sides"
        rows.append(
            Row(
                f"{ours}: training step, {size}",
                peer,
                results[peer]["cpu_s"],
                results[ours]["cpu_s"],
                goal=GOAL_TWIN if is_twin else GOAL if ours == BEST else None,
                ratio=statistics.median(ratios),
                spread=(min(ratios), max(ratios)),
                accuracy=accuracy,
                counts=counts,
            )
        )
    return rows


def main() -> None:
    """Measure, print a table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=256, help="side of the images, a multiple of 32")
    parser.add_argument("--repeats", type=int, default=5, help="rounds that count")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--encoders", nargs="+", help="compare our network with these encoders")
    parser.add_argument(
        "--decoder_channels",
        type=lambda text: [int(number) for number in text.split(",")],
        action="append",
        help="with --encoders: compare this decoder too, such as 128,64,32,16,16; several times for several",
    )
    parser.add_argument("--json", type=Path, help="write the record there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    image = torch.randn(args.batch, 3, args.size, args.size).to(DEVICE)
    label = (torch.rand(args.batch, 1, args.size, args.size) > 0.8).float().to(DEVICE)
    with_bfloat16 = DEVICE.type == "cuda" or supports_bfloat16("cpu")
    if args.encoders:
        contestants = make_encoder_contestants(with_bfloat16, args.encoders, [[], *(args.decoder_channels or [])])
    else:
        contestants = make_contestants(with_bfloat16)
    facts = check_outputs(contestants, image)
    run_rounds(contestants, image, label, args.repeats)
    rounds = f"{args.repeats} rounds, {args.threads} threads"
    print(f"batch {args.batch}, size {args.size}, {rounds}, load {os.getloadavg()[0]:.1f}")
    stock = next(iter(contestants.values()))
    results = {name: summarise(contestant, stock) for name, contestant in contestants.items()}
    print(f"{'training step':50}  GFLOP  params   wall s    CPU s  predict   ratio of wall, of CPU time (spread)")
    for name, line in results.items():
        gflop, parameters = facts[name]
        times = f"{line['wall_s']:8.2f} {line['cpu_s']:8.2f} {line['forward_cpu_s']:8.3f}"
        ratios = f"{line['ratio_wall']:5.2f}  {line['ratio_cpu']:5.2f}"
        spread = f"{line['ratio_cpu_min']:.2f} to {line['ratio_cpu_max']:.2f}"
        print(f"{name:50} {gflop:6.1f} {parameters / 1e6:6.2f}M {times}   {ratios} ({spread})")
    size = f"{args.batch} x 3 x {args.size} x {args.size}"
    unit = "s of processor time" if DEVICE.type == "cpu" else "s"
    title = "UNet++ with a ResNet-34 encoder"
    rows = make_rows(results, contestants, facts, size)
    write_record(args.json, build_record("unetplusplus", title, unit, rows, threads=args.threads))


if __name__ == "__main__":
    main()
