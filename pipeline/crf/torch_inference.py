"""Mean field in plain torch: the torch backend, for GPUs and where numba is missing."""

from dataclasses import dataclass

import torch

from pipeline.crf.arguments import LEAST, TINY, Parameters
from pipeline.crf.lattice_geometry import AXIS_BITS, ONE, Geometry, measure_lattice

_AXES = 1 << AXIS_BITS


def infer(prob: torch.Tensor, image: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Return Q ``(L, *spatial)``; arguments are checked, see `pipeline.crf.mean_field`.

    Args:
        prob: ``(L, *spatial)``.
        image: ``(*spatial, C)`` on the same device.
        parameters: widths in voxels.
    """
    labels, shape = prob.shape[0], tuple(prob.shape[1:])
    unary = prob.reshape(labels, -1).float().clamp(LEAST, 1).log().T
    lattices = []
    if parameters.spatial_weight > 0 and parameters.iterations > 0:
        geometry = measure_lattice(shape, parameters.spatial_width, 1.0, (), ())
        lattices.append((parameters.spatial_weight, _build(geometry, prob.new_empty((unary.shape[0], 0)).float())))
    if parameters.bilateral_weight > 0 and parameters.iterations > 0:
        flat = image.reshape(-1, image.shape[-1])
        lows, highs = [float(flat.min())] * flat.shape[1], [float(flat.max())] * flat.shape[1]
        geometry = measure_lattice(shape, parameters.bilateral_width, parameters.bilateral_intensity, lows, highs)
        lattices.append((parameters.bilateral_weight, _build(geometry, flat.float())))
    state = unary.softmax(1)
    for _ in range(parameters.iterations):
        logits = unary.clone()
        for weight, lattice in lattices:
            logits += weight * lattice.filter(state)
        state = logits.softmax(1)
    return state.T.reshape(prob.shape).contiguous()


@dataclass(frozen=True)
class _Lattice:
    """A lattice over n points with normalised weights.

    Args:
        index: corners of each simplex (n, d + 1).
        weights: barycentric coordinates times the norm (n, d + 1).
        ahead: neighbours along each axis (d + 1, vertices); a missing one has the number of vertices as id.
        behind: the same in the other direction.
    """

    index: torch.Tensor
    weights: torch.Tensor
    ahead: torch.Tensor
    behind: torch.Tensor

    def filter(self, values: torch.Tensor) -> torch.Tensor:
        """Splat, blur and slice values (n, L)."""
        number = self.ahead.shape[1]
        table = values.new_zeros((number + 1, values.shape[1]))
        for corner in range(self.index.shape[1]):
            table.index_add_(0, self.index[:, corner], values * self.weights[:, corner, None])
        for up, down in zip(self.ahead, self.behind, strict=True):
            table[:number] = table[:number] + 0.5 * (table[up] + table[down])
        sliced = torch.zeros_like(values)
        for corner in range(self.index.shape[1]):
            sliced += table[self.index[:, corner]] * self.weights[:, corner, None]
        return sliced


def _build(geometry: Geometry, colours: torch.Tensor) -> _Lattice:
    keys, weights = _find_simplices(_compute_features(geometry, colours), geometry)
    unique, index = torch.unique(keys, return_inverse=True)
    ahead, behind = _find_neighbours(unique, geometry)
    raw = _Lattice(index, weights, ahead, behind)
    total = raw.filter(weights.new_ones((len(weights), 1)))
    return _Lattice(index, weights / (total + TINY).sqrt(), ahead, behind)


def _compute_features(geometry: Geometry, colours: torch.Tensor) -> torch.Tensor:
    """Return the features (n, d), the last axis of the grid first."""
    device = colours.device
    steps = [
        torch.arange(size, device=device, dtype=torch.float32) * step
        for size, step in zip(geometry.shape, geometry.spatial_step, strict=True)
    ]
    grid = [axis.reshape(-1) for axis in torch.meshgrid(*steps, indexing="ij")]
    scaled = colours * torch.tensor(geometry.intensity_step, device=device, dtype=torch.float32)
    return torch.cat([torch.stack(grid[::-1], 1), scaled], 1)


def _find_simplices(features: torch.Tensor, geometry: Geometry) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the packed keys of the corners of each point's simplex and the barycentric coordinates, (n, d + 1)."""
    device, corners = features.device, geometry.axes + 1
    unit = torch.tensor(geometry.unit, device=device)
    origin = torch.tensor(geometry.origin, device=device)
    elevated = features.new_empty((len(features), corners))
    total = torch.zeros_like(features[:, 0])
    for j in range(corners - 1, 0, -1):
        elevated[:, j] = total - j * features[:, j - 1]
        total = total + features[:, j - 1]
    elevated[:, 0] = total
    scaled = elevated * (1.0 / corners)
    nearest = torch.floor(scaled + 0.5)
    whole = nearest.long()
    sums = whole.sum(1, keepdim=True)
    base = ((whole - origin) * unit).sum(1, keepdim=True)
    # Of equal distances the axis with the lower number comes first.
    names = torch.arange(_AXES - 1, _AXES - 1 - corners, -1, device=device)
    order = (((scaled - nearest) * ONE).long() * _AXES + names).sort(1, descending=True).values
    rank = torch.arange(corners, device=device)
    step = (rank > corners - 1 - sums).long() - (rank < -sums).long()
    base = base - (step * unit[_AXES - 1 - order % _AXES]).sum(1, keepdim=True)
    order = (order + step * ONE * _AXES).sort(1, descending=True).values.flip(1)
    distance = order.div(_AXES, rounding_mode="floor")
    first = ONE - distance[:, -1:] + distance[:, :1]
    weights = torch.cat([first, distance[:, 1:] - distance[:, :-1]], 1).float() / ONE
    given_up = unit[_AXES - 1 - order[:, :-1] % _AXES].cumsum(1)
    keys = base * corners + rank
    keys[:, 1:] -= corners * given_up
    return keys, weights


def _find_neighbours(unique: torch.Tensor, geometry: Geometry) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the ids of the vertices one step ahead and behind along each axis, (d + 1, vertices)."""
    corners, number = geometry.axes + 1, len(unique)
    missing = torch.full((corners, number), number, device=unique.device)
    ahead, behind = missing, missing.clone()
    carry = torch.where(unique % corners == corners - 1, corners * (sum(geometry.unit) - 1), 0)
    for axis in range(corners):
        wanted = unique + 1 - corners * geometry.unit[axis] + carry
        place = torch.searchsorted(unique, wanted).clamp(max=number - 1)
        found = unique[place] == wanted
        here = torch.arange(number, device=unique.device)[found]
        ahead[axis, here] = place[found]
        behind[axis, place[found]] = here
    return ahead, behind
