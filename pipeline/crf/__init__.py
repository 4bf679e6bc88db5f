"""The fully connected CRF of Krähenbühl and Koltun (2011): arrays in, arrays out.

`mean_field` is the function to call; its docstring has the equations and the unit of every width. Two lattice paths
compute the same: compiled by numba for the CPU, and plain torch for a GPU or where numba is missing; a third compares
all pairs of points and tells how far a lattice is from the definition.
"""

from pipeline.crf.inference import mean_field, mean_field_batch
from pipeline.crf.memory import CaseTooLargeError, estimate_memory

__all__ = ["CaseTooLargeError", "estimate_memory", "mean_field", "mean_field_batch"]
