r"""The fully connected CRF of Krähenbühl and Koltun (NIPS 2011) with Gaussian edge potentials: arrays in, arrays out.

`mean_field` computes it, with the Potts model and symmetrically normalised kernels. With the unary energy
:math:`-\log p_i(l)` and Q the approximate marginals, one iteration is, for all points i and labels l at once,

.. math::
    Q_i(l) \leftarrow \mathrm{softmax}_l\Big(\log p_i(l)
        + w_s \sum_j \hat{k}^s_{ij} Q_j(l) + w_b \sum_j \hat{k}^b_{ij} Q_j(l)\Big),

    k^s_{ij} = \exp\Big(-\frac{|x_i - x_j|^2}{2 \theta_s^2}\Big), \qquad
    k^b_{ij} = \exp\Big(-\frac{|x_i - x_j|^2}{2 \theta_b^2} - \frac{|I_i - I_j|^2}{2 \theta_I^2}\Big), \qquad
    \hat{k} = D^{-1/2} k D^{-1/2},

with x the position, I the intensities and D the row sums of k. A point's own term (i = j) is kept, as in the authors'
code. The sums run over all points; the permutohedral lattice (Adams et al. 2010) filters in linear time. It is an
approximation: single points next to an edge can differ from the exact sums by some hundredths after one iteration and
by less than 0.01 after five. Two backends use a lattice: one is compiled by numba for the CPU, the other is plain torch
for a GPU or where numba is missing. The backend ``"exact"`` compares all pairs of points and serves as their reference.

Example:
    >>> import numpy as np
    >>> image = np.zeros((8, 8, 1), np.uint8)
    >>> image[:, 4:] = 200
    >>> foreground = np.where(image[..., 0] > 0, 0.7, 0.3)
    >>> foreground[3, 6] = 0.2  # a hole
    >>> q = mean_field(np.stack([1 - foreground, foreground]), image, spatial_weight=3, spatial_width=3,
    ...     bilateral_weight=10, bilateral_width=20, bilateral_intensity=13, iterations=5)
    >>> q.argmax(0)[3].tolist()
    [0, 0, 0, 0, 1, 1, 1, 1]
"""

from pipeline.crf.inference import mean_field, mean_field_batch
from pipeline.crf.memory import CaseTooLargeError, estimate_memory

__all__ = ["CaseTooLargeError", "estimate_memory", "mean_field", "mean_field_batch"]
