"""A synthetic head with a lesion, as seen by three MR sequences.

The unit of length is half the field of view: a slice reaches from -1 to 1 along its rows (front to back) and columns,
and the head from -1 to 1 upwards. `draw_head` draws the parameters, `render_head` renders them at any resolution.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.datasets.phantoms.fields import Field, blend, draw_smooth_noise, soft_step

SEQUENCES = ("pre-contrast", "FLAIR", "post-contrast")

# Brightness of the tissues in SEQUENCES: fat is always bright, fluid always dark, grey and white matter swap.
SCALP = (0.80, 0.86, 0.82)
BONE = (0.08, 0.06, 0.09)
FLUID = (0.15, 0.10, 0.16)
GREY = (0.34, 0.49, 0.37)
WHITE = (0.50, 0.38, 0.52)
MUSCLE = (0.34, 0.27, 0.42)

SKULL_DEPTH, CAVITY_DEPTH, BRAIN_DEPTH = 0.050, 0.095, 0.120
BOTTOM, TOP = -0.72, 0.97


@dataclass(frozen=True)
class Lesion:
    """A blob inside the brain: bright in FLAIR, dark before contrast, sometimes enhancing."""

    centre: tuple[float, float, float]  #: (z, y, x)
    radii: tuple[float, float, float]  #: half its extent along (z, y, x)
    brightness: float  #: its FLAIR signal; white matter has 0.38
    darkening: float  #: relative loss of T1 signal
    enhancement: float  #: gain of its core after contrast, 0 for none


@dataclass(frozen=True)
class Head:
    """The parameters of one patient, apart from the random fields."""

    half_width: float
    half_length: float
    tilt: float
    shift: tuple[float, float]
    ventricles: float
    lesions: tuple[Lesion, ...]
    spots: tuple[tuple[float, float, float, float], ...]
    texture_seed: int


@dataclass(frozen=True)
class Grid:
    """Voxel positions in the head's own frame: z (D, 1, 1), y and x (1, H, W), and depth below the scalp (D, H, W)."""

    z: Field
    y: Field
    x: Field
    depth: Field

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels (D, H, W)."""
        depth, height, width = self.depth.shape
        return depth, height, width


def draw_head(rng: np.random.Generator, *, slices: int) -> Head:
    """Draw one patient's anatomy and lesions.

    Args:
        rng: source of the random numbers.
        slices: number of slices that will be cut; every lesion is thick enough to appear in several of them.
    """
    half_width, half_length = rng.uniform(0.60, 0.70), rng.uniform(0.76, 0.86)
    tilt, shift = rng.uniform(-0.12, 0.12), (rng.uniform(-0.06, 0.06), rng.uniform(-0.06, 0.06))
    ventricles = rng.uniform(0.8, 1.3)
    thickness = (TOP - BOTTOM) / (slices - 1)
    lesions = [_draw_lesion(rng, half_width, half_length, thickness, scale=1.0)]
    if rng.random() < 0.25:
        lesions.append(_draw_lesion(rng, half_width, half_length, thickness, scale=0.6))
    spots = tuple(
        (rng.uniform(-0.1, 0.5), rng.uniform(-0.45, 0.45), rng.uniform(-0.35, 0.35), rng.uniform(0.025, 0.045))
        for _ in range(rng.integers(2, 5))
    )
    return Head(
        half_width, half_length, tilt, shift, ventricles, tuple(lesions), spots, texture_seed=int(rng.integers(2**31))
    )


def _draw_lesion(
    rng: np.random.Generator, half_width: float, half_length: float, thickness: float, *, scale: float
) -> Lesion:
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 0.58)
    centre = (rng.uniform(-0.10, 0.42), reach * half_length * np.sin(angle), reach * half_width * np.cos(angle))
    in_plane = scale * rng.uniform(0.18, 0.26, size=2)
    upwards = max(scale * rng.uniform(0.24, 0.34), 1.6 * thickness)
    return Lesion(
        centre=centre,
        radii=(upwards, float(in_plane[0]), float(in_plane[1])),
        brightness=rng.uniform(0.72, 0.92),
        darkening=rng.uniform(0.30, 0.50),
        enhancement=rng.uniform(0.25, 0.45) if rng.random() < 0.4 else 0.0,
    )


def render_head(head: Head, *, slices: int, size: int) -> tuple[Field, list[Field]]:
    """Cut a head into slices.

    Args:
        head: the parameters.
        slices: number of axial slices D, from the skull's base upwards.
        size: height and width of a slice, in pixels.

    Returns:
        Noise-free signal (3, D, H, W) of the SEQUENCES, about 0 to 1, and for every lesion its share of each voxel
        (D, H, W).

    Example:
        >>> head = draw_head(np.random.default_rng(0), slices=8)
        >>> signal, lesions = render_head(head, slices=8, size=64)
        >>> signal.shape, lesions[0].shape
        ((3, 8, 64, 64), (8, 64, 64))
    """
    rng = np.random.default_rng(head.texture_seed)
    grid = _make_grid(head, rng, slices, size)
    fluid, grey, brain = _shape_brain(head, grid, rng)
    face = _shape_face(grid, rng)
    facial = _shape_facial_tissues(grid, rng)
    parenchyma = (brain * (1 - face) * (1 - fluid)).astype(np.float32)
    lesions = [_shape_lesion(lesion, grid, rng) * parenchyma for lesion in head.lesions]
    caps = _shape_distractors(head, grid) * parenchyma
    folds = draw_smooth_noise(rng, grid.shape, (6, 30, 30))
    core = soft_step(draw_smooth_noise(rng, grid.shape, (8, 16, 16)) + 0.3, 0.2)

    cavity = soft_step(grid.depth - CAVITY_DEPTH, 0.006)
    signal = []
    for channel, name in enumerate(SEQUENCES):
        voxels = _render_skull(grid, cavity, channel)
        tissue = blend(np.full_like(voxels, WHITE[channel]), GREY[channel], grey) * (1 + 0.03 * folds)
        voxels = blend(voxels, blend(tissue, FLUID[channel], fluid), brain)
        voxels = blend(voxels, _mix_face(facial, channel), face * cavity)
        for lesion, share in zip(head.lesions, lesions, strict=True):
            voxels = _add_lesion(voxels, lesion, share, name, texture=folds, core=core)
        signal.append(blend(voxels, 0.80, caps) if name == "FLAIR" else voxels)
    return np.stack(signal), lesions


def _render_skull(grid: Grid, cavity: Field, channel: int) -> Field:
    """Return scalp and bone, and fluid in the cavity."""
    voxels = soft_step(grid.depth, 0.008) * SCALP[channel]
    voxels = blend(voxels, BONE[channel], soft_step(grid.depth - SKULL_DEPTH, 0.006))
    return blend(voxels, FLUID[channel], cavity)


def _add_lesion(voxels: Field, lesion: Lesion, share: Field, sequence: str, *, texture: Field, core: Field) -> Field:
    if sequence == "FLAIR":
        return blend(voxels, lesion.brightness * (1 + 0.07 * texture), share)
    voxels = voxels * (1 - lesion.darkening * share)
    if sequence == "post-contrast":
        voxels = voxels + lesion.enhancement * core * share**2
    return voxels.astype(np.float32)


def _make_grid(head: Head, rng: np.random.Generator, slices: int, size: int) -> Grid:
    axis = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    rows, columns = axis[:, None] - head.shift[0], axis[None, :] - head.shift[1]
    y = (rows * np.cos(head.tilt) - columns * np.sin(head.tilt)).astype(np.float32)[None]
    x = (rows * np.sin(head.tilt) + columns * np.cos(head.tilt)).astype(np.float32)[None]
    z = np.linspace(BOTTOM, TOP, slices, dtype=np.float32)[:, None, None]
    profile = np.sqrt(1 - np.where(z > 0, z, 0.55 * z) ** 2)
    wobble = 1 + 0.025 * draw_smooth_noise(rng, (slices, size, size), (2, 4, 4))
    radius = np.sqrt((x / head.half_width) ** 2 + (y / head.half_length) ** 2) * wobble
    return Grid(z, y, x, ((profile - radius) * head.half_width).astype(np.float32))


def _shape_brain(head: Head, grid: Grid, rng: np.random.Generator) -> tuple[Field, Field, Field]:
    """Return the shares of fluid, grey matter and brain, each (D, H, W)."""
    z, y, x = grid.z, grid.y, grid.x
    below = grid.depth - BRAIN_DEPTH
    folds = draw_smooth_noise(rng, grid.shape, (5, 24, 24))
    shell = soft_step(0.11 - below, 0.02)
    sulci = soft_step(0.20 - np.abs(folds), 0.05) * shell
    midline = np.abs(x + 0.012 * draw_smooth_noise(rng, (1, *grid.shape[1:]), (1, 8, 8)))
    fissure = soft_step(0.012 - midline, 0.004) * soft_step(np.maximum(np.abs(y) - 0.30, z - 0.40), 0.02)
    fluid = np.maximum(np.maximum(sulci, fissure), _shape_ventricles(head, grid))
    cortex = soft_step(0.045 + 0.025 * folds - below, 0.012)
    ribbons = soft_step(0.60 - np.abs(folds), 0.10) * soft_step(0.16 - below, 0.03)
    nuclei = soft_step(1 - ((np.abs(x) - 0.17) / 0.08) ** 2 - ((y - 0.04) / 0.15) ** 2 - ((z - 0.02) / 0.2) ** 2, 0.2)
    grey = np.maximum(np.maximum(cortex, ribbons), nuclei)
    return fluid, grey, soft_step(below, 0.008)


def _shape_ventricles(head: Head, grid: Grid) -> Field:
    curve = 0.075 + 0.55 * (grid.y - 0.02) ** 2
    across = (np.abs(grid.x) - curve) / (0.040 * head.ventricles)
    inside = 1 - across**2 - ((grid.y - 0.02) / (0.27 * head.ventricles)) ** 2 - ((grid.z - 0.12) / 0.30) ** 2
    return soft_step(inside, 0.12)


def _shape_face(grid: Grid, rng: np.random.Generator) -> Field:
    """Return the share (D, H, W) of the tissues in front of and below the brain."""
    border = _mirror(draw_smooth_noise(rng, grid.shape, (3, 12, 12)))
    return soft_step(-0.34 - grid.z - 0.55 * (grid.y + 0.15) + 0.05 * border, 0.02)


def _shape_facial_tissues(grid: Grid, rng: np.random.Generator) -> tuple[Field, Field, Field, Field]:
    """Return the shares of fat, air and eyes, each (D, H, W), and the muscles' texture."""
    bumps = _mirror(draw_smooth_noise(rng, grid.shape, (4, 22, 22)))
    fat, air = soft_step(bumps - 0.9, 0.15), soft_step(-1.0 - bumps, 0.1)
    eye = 1 - np.sqrt(
        ((np.abs(grid.x) - 0.25) / 0.12) ** 2 + ((grid.y + 0.55) / 0.13) ** 2 + ((grid.z + 0.45) / 0.2) ** 2
    )
    fat = np.maximum(fat, soft_step(eye + 0.45, 0.05))
    return fat, air * soft_step(-0.45 - eye, 0.05), soft_step(eye, 0.04), bumps


def _mix_face(facial: tuple[Field, Field, Field, Field], channel: int) -> Field:
    fat, air, eyes, bumps = facial
    voxels = MUSCLE[channel] * (1 + 0.15 * bumps)
    voxels = blend(voxels, 0.8 * SCALP[channel], fat)
    voxels = blend(voxels, BONE[channel], air)
    return blend(voxels, FLUID[channel], eyes)


def _mirror(field: Field) -> Field:
    """Make a field symmetric between left and right, as a face is."""
    return np.asarray((field + field[..., ::-1]) / np.sqrt(2), dtype=np.float32)


def _shape_lesion(lesion: Lesion, grid: Grid, rng: np.random.Generator) -> Field:
    axes = zip((grid.z, grid.y, grid.x), lesion.centre, lesion.radii, strict=True)
    distance = np.sqrt(sum(((axis - centre) / radius) ** 2 for axis, centre, radius in axes))
    border = draw_smooth_noise(rng, grid.shape, (6, 14, 14))
    return soft_step(1 - distance + 0.13 * border, 0.07)


def _shape_distractors(head: Head, grid: Grid) -> Field:
    """Return bright FLAIR signal that is not a lesion: caps on the ventricles' horns and small white-matter spots."""
    horn = 0.27 * head.ventricles
    across, along = np.abs(grid.x) - (0.075 + 0.55 * horn**2), np.abs(grid.y - 0.02) - horn - 0.02
    caps = soft_step(1 - (across / 0.045) ** 2 - (along / 0.05) ** 2 - ((grid.z - 0.12) / 0.22) ** 2, 0.2)
    for z, y, x, radius in head.spots:
        inside = 1 - ((grid.z - z) / 0.10) ** 2 - ((grid.y - y) / radius) ** 2 - ((grid.x - x) / radius) ** 2
        caps = np.maximum(caps, soft_step(inside, 0.2))
    return caps
