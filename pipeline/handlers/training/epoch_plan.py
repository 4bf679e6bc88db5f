"""Epochs, their length and their validations that fit into a time."""

import math
from dataclasses import dataclass

#: Share of the time that validations may take; there is always one
VALIDATION_SHARE = 0.2
# A training that is shorter than five epochs gets five short ones: each is saved, and after each the plan is mended.
_FEWEST = 5
# Part of an epoch by which a plan may be too long: otherwise the least noise would cost a whole epoch.
_TOLERANCE = 0.1


@dataclass(frozen=True)
class EpochPlan:
    """What a training does with its time."""

    epochs: int  #: that are trained, at least 1
    length: int  #: iterations of each, at least 1
    validations: int  #: of these epochs, the last one included
    is_complete: bool  #: all epochs that were wanted fit, with all their iterations


def plan_epochs(
    seconds: float, iteration: float, validation: float, length: int, epochs: int, interval: int
) -> EpochPlan:
    """Plan the epochs of a training from the measured speed.

    If not all epochs fit, the epochs get another number of iterations, so that their end is that of the time and
    the validations take at most `VALIDATION_SHARE` of it.

    Args:
        seconds: that are left.
        iteration: seconds of one.
        validation: seconds of one.
        length: iterations of a whole epoch.
        epochs: at most, at least 1.
        interval: epochs from validation to validation.

    Example:
        >>> plan_epochs(seconds=900, iteration=1.0, validation=25, length=104, epochs=100, interval=5)
        EpochPlan(epochs=9, length=94, validations=2, is_complete=False)
    """
    validations = count_validations(0, epochs, interval)
    if epochs * length * iteration + validations * validation <= seconds:
        return EpochPlan(epochs, length, validations, True)
    most = max(1, int(VALIDATION_SHARE * seconds / validation)) if validation > 0 else epochs
    wanted = max(_FEWEST, math.ceil(seconds / (length * iteration)))
    count = max(1, min(wanted, most * interval, epochs))
    validations = count_validations(0, count, interval)
    iterations = max(1, int((seconds - validations * validation) / iteration))
    count = min(count, iterations)
    return EpochPlan(count, iterations // count, count_validations(0, count, interval), False)


def count_further_epochs(seconds: float, epoch: float, validation: float, done: int, most: int, interval: int) -> int:
    """Return how many further epochs fit into a time, each with the length of those before.

    Args:
        seconds: that are left.
        epoch: seconds of one, without validation.
        validation: seconds of one.
        done: epochs so far.
        most: further epochs that are wanted.
        interval: epochs from validation to validation.

    Example:
        >>> count_further_epochs(seconds=100, epoch=20, validation=10, done=2, most=9, interval=2)
        4
    """
    limit = seconds + _TOLERANCE * epoch
    count = min(most, int(limit / epoch)) if epoch > 0 else most
    while count > 0 and count * epoch + count_validations(done, done + count, interval) * validation > limit:
        count -= 1
    return max(0, count)


def count_validations(first: int, last: int, interval: int) -> int:
    """Count the validations after epoch ``first`` up to ``last``, which is always validated.

    Example:
        >>> count_validations(0, 9, 5), count_validations(5, 10, 5)
        (2, 1)
    """
    return last // interval - first // interval + (last % interval > 0)
