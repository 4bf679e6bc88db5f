import hashlib
import threading
import time
from pathlib import Path

import pytest

from pipeline.datasets.digests import compute_sha256, map_threads, read_checksums
from pipeline.issues import InputError


def test_compute_sha256(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc" * 100_000)
    assert compute_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_threads_keep_the_order() -> None:
    def wait(number: int) -> int:
        time.sleep(0.01 / (number + 1))
        return number

    assert list(map_threads(wait, range(9), jobs=4)) == list(range(9))


def test_an_interrupt_does_not_work_off_the_queue() -> None:
    started = threading.Semaphore(0)

    def work(number: int) -> int:
        started.release()
        if number == 0:
            raise KeyboardInterrupt
        time.sleep(0.02)
        return number

    with pytest.raises(KeyboardInterrupt):
        list(map_threads(work, range(200), jobs=1))
    assert sum(started.acquire(blocking=False) for _ in range(200)) < 50


def test_read_checksums(tmp_path: Path) -> None:
    path = tmp_path / "SHA256SUMS"
    path.write_text(f"{'a' * 64}  ./x y.tif\n{'b' * 64} *z.tif\n")
    assert read_checksums(path) == {"x y.tif": "a" * 64, "z.tif": "b" * 64}
    path.write_text(f"{'a' * 64}  x\nnonsense\n")
    with pytest.raises(
        InputError, match=r"SHA256SUMS line 2: expected '<64 hexadecimal digits>  <path>', got 'nonsense'"
    ):
        read_checksums(path)
    with pytest.raises(InputError, match="cannot read the checksums"):
        read_checksums(tmp_path / "none")
