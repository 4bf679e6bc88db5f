"""Read, check and draw damaged annotation files under a memory limit; run by `test_fuzz`.

Arguments: first and last seed. Prints a JSON object: how many files had which outcome.
"""

import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mutations import HEIGHT, WIDTH, mutate

from pipeline.datasets.coco import AnnotationError, check_annotations, parse_annotations, rasterise
from pipeline.issues import Issue

MEMORY = 2 << 30
LARGEST_IMAGE = 100_000


def try_file(content: bytes, outcomes: Counter[str]) -> None:
    """Do what a build, a check and a training do with a file; whatever is raised besides AnnotationError counts."""
    file = parse_annotations(content, "a.json")
    small = {key for key, image in file.images.items() if image.height * image.width <= LARGEST_IMAGE}
    issues = check_annotations(file, instances=len(content) % 2 == 0) if len(small) == len(file.images) else []
    for issue in (*issues, *file.issues):
        assert isinstance(issue, Issue)
        assert issue.code
        issue.one_line().encode()
    outcomes.update({issue.code for issue in file.issues if issue.severity == "error"} or {"accepted"})
    for image_id in {*small, "1"}:
        try:
            mask = rasterise(file, image_id, dict.fromkeys(file.categories, 1), "merge", len(content) % 3 == 0)
            assert set(mask.ravel().tolist()) <= set(range(10))
            outcomes["drawn"] += mask.shape == (HEIGHT, WIDTH)
        except AnnotationError:
            outcomes["refused to draw"] += 1


def main() -> None:
    """Try all seeds."""
    import pycocotools.mask  # noqa: F401  # its libraries are loaded before the limit counts

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for seed in range(int(sys.argv[1]), int(sys.argv[2])):
        start = time.perf_counter()
        try:
            try_file(mutate(random.Random(seed)), outcomes)
        except BaseException as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        slowest = max(slowest, time.perf_counter() - start)
    print(json.dumps({"slowest_ms": round(slowest * 1000), **outcomes}))


if __name__ == "__main__":
    main()
