"""A training step and a prediction of MONAI's networks with torch's InstanceNorm and with ours.

Ours is `pipeline.networks.use_fast_instance_norm` with weights and batch channels last; the peer is the same network as
it comes, in the faster of both layouts. All start from the same weights. A row counts if the outputs agree: within 1e-3
in float32; in bfloat16 ours may differ from float32 by at most 1.5 times what torch's does. Seconds are those of the
processor (on a GPU of the clock, where both are the same layer), one thread, medians of rounds in turns.

Example:
    python benchmarks/instance_norm.py --rounds 3 --json docs/benchmarks/instance_norm.json
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from clocks import DEVICE, take_turns
from monai.networks.nets import UNETR, BasicUNet
from records import Row, build_record, write_record

from pipeline.networks import use_fast_instance_norm

GOAL = 1.5
SIDES = ("stock", "stock, channels last", "ours")
Make = Callable[[], torch.nn.Module]
NETWORKS: dict[str, tuple[Make, tuple[int, ...], float | None]] = {
    "BasicUNet": (lambda: BasicUNet(2, 3, 1, features=(32, 64, 128, 256, 512, 32)), (4, 3, 256, 256), GOAL),
    "UNETR": (lambda: UNETR(1, 3, (48, 64, 48), proj_type="conv"), (2, 1, 48, 64, 48), None),
}


def make_sides(make: Make, shape: tuple[int, ...]) -> dict[str, tuple[torch.nn.Module, torch.Tensor]]:
    """Return each side's network and batch."""
    torch.manual_seed(0)
    network, batch = make().to(DEVICE), torch.randn(shape, device=DEVICE)
    layout = torch.channels_last if batch.ndim == 4 else torch.channels_last_3d
    laid_out = copy.deepcopy(network).to(memory_format=layout)
    fast = use_fast_instance_norm(copy.deepcopy(laid_out))
    last = batch.contiguous(memory_format=layout)
    return dict(zip(SIDES, ((network, batch), (laid_out, last), (fast, last)), strict=True))


def predict(network: torch.nn.Module, batch: torch.Tensor, bfloat16: bool) -> torch.Tensor:
    """Return the logits."""
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=bfloat16):
        return network(batch).float()


def train(network: torch.nn.Module, batch: torch.Tensor, optimizer: torch.optim.Optimizer, bfloat16: bool) -> None:
    """Train a step."""
    optimizer.zero_grad()
    predict(network, batch, bfloat16).square().mean().backward()
    optimizer.step()


def check(sides: dict[str, tuple[torch.nn.Module, torch.Tensor]], bfloat16: bool) -> tuple[bool, str]:
    """Return whether the outputs agree, and how they differ."""
    with torch.no_grad():
        exact = predict(*sides["stock"], False)
        stock, ours = (float((predict(*sides[name], bfloat16) - exact).abs().max()) for name in ("stock", "ours"))
    if bfloat16:
        return ours <= 1.5 * stock, f"differs from float32 by {ours:.3g}, torch's by {stock:.3g} (at most 1.5 times)"
    return ours <= 1e-3, f"outputs differ by {ours:.3g} (at most 0.001)"


def compare(name: str, bfloat16: bool, rounds: int) -> Row:
    """Time the training step of a network."""
    make, shape, goal = NETWORKS[name]
    sides = make_sides(make, shape)
    counts, accuracy = check(sides, bfloat16)
    steps = {
        side: partial(train, *found, torch.optim.AdamW(found[0].parameters(), 1e-4, fused=True), bfloat16)
        for side, found in sides.items()
    }
    turns = take_turns(steps, rounds)
    best = min(SIDES[:2], key=turns.median)
    ratio, spread = turns.ratio(best, "ours")
    slower = next(side for side in SIDES[:2] if side != best)
    return Row(
        what=f"training step of {name}, {' x '.join(map(str, shape))}, {'bfloat16' if bfloat16 else 'float32'}",
        peer=f"torch's InstanceNorm: {best}",
        peer_value=turns.median(best),
        ours=turns.median("ours"),
        ratio=ratio,
        spread=spread,
        goal=goal,
        accuracy=accuracy,
        counts=counts,
        note=f"{slower}: {turns.median(slower):.2f} s, ratio {turns.ratio(slower, 'ours')[0]:.2f}",
    )


def measure(names: list[str], rounds: int) -> Iterator[Row]:
    """Yield every comparison."""
    for name in names:
        for bfloat16 in (False, True):
            yield compare(name, bfloat16, rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count (default: 3)")
    parser.add_argument("--json", type=Path, help="write the record here too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for row in measure(arguments.networks, arguments.rounds):
        rows.append(row)
        print(f"{row.what}\n    {row.peer_value:.2f} {row.ours:.2f} ratio {row.ratio:.2f} {row.peer}; {row.note}")
        print(f"    {row.accuracy}{'' if row.counts else '; does not count'}", flush=True)
    write_record(arguments.json, build_record("instance_norm", "InstanceNorm", "s of processor time", rows))


if __name__ == "__main__":
    main()
