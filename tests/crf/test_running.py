"""Threads, forks, the cache of lattices, machine code on disk, and life without numba."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from pipeline.crf import kernel_compiler, lattice, mean_field
from pipeline.crf.inference import count_threads
from tests.crf.scenes import OPTIONS, make_scene

SCENE = """
import numpy as np
from pipeline.crf import mean_field
rng = np.random.default_rng(0)
p = rng.random((2, 16, 16)); p /= p.sum(0)
q = mean_field(p, rng.integers(0, 255, (16, 16, 3)), spatial_weight=3, spatial_width=2, bilateral_weight=5,
               bilateral_width=5, bilateral_intensity=30, iterations=3, backend=BACKEND)
print(float(q[0].sum()))
"""


def run_scene(backend: str = "auto", **environment: str) -> float:
    code = SCENE.replace("BACKEND", repr(backend))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize("shape", [(300, 260), (40, 50, 30)])
@pytest.mark.parametrize("labels", [2, 5])
def test_threads_change_no_bit(shape: tuple[int, ...], labels: int) -> None:
    prob, image = make_scene(shape, labels)
    assert len(lattice.divide(shape, 6).slices) > 3
    first = mean_field(prob, image, threads=1, **OPTIONS)
    for threads in (2, 3, 8):
        lattice.clear_cache()
        np.testing.assert_array_equal(mean_field(prob, image, threads=threads, **OPTIONS), first)


def test_bricks_cover_the_grid_once() -> None:
    for shape, corners in (((300, 260), 6), ((1, 100_000), 4), ((37, 41, 43), 5), ((5,), 3)):
        bricks = lattice.divide(shape, corners)
        seen = np.zeros(shape, int)
        for brick, size in zip(bricks.slices, np.diff(bricks.points), strict=True):
            seen[brick] += 1
            assert seen[brick].size == size <= 65536 // corners
        assert (seen == 1).all()
        assert bricks.total == seen.size


def test_a_lattice_from_the_cache_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    build = lattice.build_lattice
    monkeypatch.setattr(lattice, "build_lattice", lambda *words: built.append(words[0]) or build(*words))
    lattice.clear_cache()
    prob, image = make_scene((60, 50), 2)
    first = mean_field(prob, image, **OPTIONS)
    assert len(built) == 1
    np.testing.assert_array_equal(mean_field(prob, image, **OPTIONS), first)
    assert len(built) == 1, "built again"
    mean_field(prob, image, **{**OPTIONS, "spatial_width": 2.5})
    mean_field(*make_scene((60, 51), 2), **OPTIONS)
    assert len(built) == 3, "another width or shape is another lattice"
    three = make_scene((60, 50), 3)
    mean_field(*three, **OPTIONS)
    assert len(built) == 3, "labels do not matter"


def test_the_cache_forgets_what_was_not_used_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    lattice.clear_cache()
    prob, image = make_scene((40, 40), 2)
    mean_field(prob, image, **OPTIONS)
    (entry,) = lattice._cache.values()
    monkeypatch.setattr(lattice, "CACHE_BYTES", int(2.5 * entry.nbytes))
    widths = (2.0, 2.1, 2.0, 2.2)
    for width in widths:
        mean_field(prob, image, **{**OPTIONS, "spatial_width": width})
    steps = [key.spatial_step[0] for key, _ in lattice._cache]
    assert len(steps) == 2
    expected = [np.float32(np.sqrt(2 / 3) * 3 / np.sqrt(6) / width) for width in (2.0, 2.2)]
    np.testing.assert_allclose(steps, expected, rtol=1e-5)
    lattice.clear_cache()
    assert not lattice._cache


def test_many_threads_of_a_program_may_call() -> None:
    cases = [make_scene((90, 80), 2 + seed % 3, seed=seed) for seed in range(12)]
    alone = [mean_field(*case, threads=1, **OPTIONS) for case in cases]
    lattice.clear_cache()
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda case: mean_field(*case, threads=2, **OPTIONS), cases))
    for left, right in zip(alone, together, strict=True):
        np.testing.assert_array_equal(left, right)


def _call_in_child(queue: Any, prob: Any, image: Any) -> None:
    queue.put(mean_field(prob, image, threads=2, **OPTIONS))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="loaders fork on Linux")
def test_a_forked_worker_may_call_after_its_parent_did() -> None:
    prob, image = make_scene((200, 180), 2)
    expected = mean_field(prob, image, threads=2, **OPTIONS)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_call_in_child, args=(queue, prob, image))
    child.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected)
    child.join(60)
    assert child.exitcode == 0


def test_threads_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert count_threads(None) == 3
    assert count_threads(5) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert count_threads(None) == len(os.sched_getaffinity(0))


HIDE = """
import importlib.machinery
find = importlib.machinery.PathFinder.find_spec
def hide(name, *rest):
    return None if name.split(".")[0] in ("numba", "llvmlite") else find(name, *rest)
importlib.machinery.PathFinder.find_spec = staticmethod(hide)
"""


def test_without_numba_torch_computes(capsys: pytest.CaptureFixture[str]) -> None:
    exec(SCENE.replace("BACKEND", repr("numba")), {})
    expected = float(capsys.readouterr().out)
    # In one process, which is slow to start: the scene by torch, then the refusal of numba.
    code = HIDE + SCENE.replace("BACKEND", repr("auto")) + SCENE.replace("BACKEND", repr("numba"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert float(done.stdout) == pytest.approx(expected, abs=1e-3)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        'ValueError: backend "numba" needs the package numba: pip install numba, or give backend="torch"'
    )


def test_importing_the_package_is_light() -> None:
    code = "import sys, pipeline.crf; print([n for n in ('numba', 'torch', 'monai') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_machine_code_is_kept_on_disk(tmp_path: Path) -> None:
    first = run_scene(NUMBA_CACHE_DIR=str(tmp_path))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")}
    assert len(kept) >= 8
    assert run_scene(NUMBA_CACHE_DIR=str(tmp_path)) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")} == kept, "compiled again"


def test_where_nothing_can_be_written_every_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    real = numba.njit

    def refuse(**options: Any) -> Any:
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function 'f': no locator available for file 'f.py'")
        return real(**options)

    monkeypatch.setattr(kernel_compiler.numba, "njit", refuse)

    @kernel_compiler.compiled
    def double(x: float) -> float:
        return 2 * x

    assert double(3.0) == 6.0
