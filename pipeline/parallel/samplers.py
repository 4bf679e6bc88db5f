"""Divide the cases of a validation among processes."""

from typing import Any

import ignite.distributed as idist
from monai.data import DistributedSampler

from pipeline.issues import InputError
from pipeline.parallel.agreement import exit_together


class ValidationSampler(DistributedSampler):
    """Assign each case of a validation to one process.

    MONAI's sampler with ``even_divisible=False``, which does not repeat cases to make the shares equal. It refuses, in
    one line, a process without cases, because the others would wait for it.

    Args:
        dataset: the cases.

    Raises:
        InputError: there are more processes than cases.

    Example:
        >>> list(ValidationSampler([10, 20, 30]))
        [0, 1, 2]
    """

    def __init__(self, dataset: Any) -> None:
        processes = idist.get_world_size()
        with exit_together():
            if len(dataset) < processes:
                raise InputError(
                    f"{processes} processes, but {len(dataset)} validation cases: each process needs one; "
                    f"start at most {len(dataset)} with --nproc_per_node"
                )
        super().__init__(dataset, even_divisible=False, num_replicas=processes, rank=idist.get_rank(), shuffle=False)
