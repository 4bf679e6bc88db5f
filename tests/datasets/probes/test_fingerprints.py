"""Fingerprints survive what people do to pictures, and tell different pictures apart."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

from pipeline.datasets.checks.leaks import near
from pipeline.datasets.checks.leaks.near import NearPairs, find_near_pairs
from pipeline.datasets.probes.fingerprints import (
    HASH_BITS,
    SIDE,
    SYMMETRIES,
    Fingerprint,
    apply_symmetry,
    compute_details,
    compute_fingerprint,
    compute_hashes,
    read_thumbnails,
)
from pipeline.datasets.probes.pixels import summarise_pixels

Array = np.ndarray


def draw(seed: int, shape: tuple[int, ...] = (180, 240)) -> Array:
    """A smooth random picture, 8 bit."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 8)
    smooth += 0.3 * gaussian_filter(rng.normal(size=shape), 3)
    return ((smooth - smooth.min()) / (smooth.max() - smooth.min()) * 200 + 20).astype(np.uint8)


def jpeg(image: Array, quality: int) -> Array:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def halve(image: Array) -> Array:
    return np.asarray(Image.fromarray(image).resize((image.shape[1] // 2, image.shape[0] // 2)))


def compare(first: Array, second: Array) -> tuple[int, float, int]:
    """Distance, correlation and symmetry of the best match of two images."""
    thumbnails = read_thumbnails([compute_fingerprint(first), compute_fingerprint(second)])
    limits = {"distance": HASH_BITS, "min_correlation": -1.0}
    (pairs,) = list(find_near_pairs(thumbnails, np.arange(2), **limits))
    return int(pairs.distance[0]), float(pairs.correlation[0]), int(pairs.symmetry[0])


CHANGES: dict[str, Callable[[Array], Array]] = {
    "jpeg 50": lambda a: jpeg(a, 50),
    "half size": halve,
    "brighter": lambda a: np.clip(a * 1.1, 0, 255).astype(np.uint8),
    "darker": lambda a: (a * 0.9).astype(np.uint8),
    "offset": lambda a: np.clip(a.astype(int) + 25, 0, 255).astype(np.uint8),
    "16 bit": lambda a: a.astype(np.uint16) * 257,
    "float": lambda a: a / 1e5 - 3,
    "colour": lambda a: np.stack([a, a, a], axis=-1),
    "all at once": lambda a: jpeg(halve(np.ascontiguousarray((a * 0.9).astype(np.uint8)[:, ::-1])), 60),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", [0, 1])
def test_changed_pictures_stay_recognisable(change: str, seed: int) -> None:
    image = draw(seed)
    distance, correlation, _ = compare(image, CHANGES[change](image))
    assert distance <= 6
    assert correlation >= 0.95


@pytest.mark.parametrize("symmetry", range(8))
def test_each_symmetry_is_found_and_named(symmetry: int) -> None:
    image = draw(3, (96, 140))
    changed = apply_symmetry(image, symmetry)
    distance, correlation, found = compare(image, changed)
    assert (distance, round(correlation, 3)) == (0, 1.0)
    # A quarter turn is undone by the turn the other way.
    assert SYMMETRIES[found] == SYMMETRIES[symmetry]


def test_hashes_of_symmetries_are_the_hashes_of_turned_thumbnails() -> None:
    thumbnails = np.random.default_rng(0).normal(size=(3, SIDE, SIDE)).astype(np.float32)
    hashes = compute_hashes(thumbnails)
    assert hashes.shape == (3, 8, 63)
    assert set(np.unique(hashes)) == {-1, 1}
    for symmetry in range(8):
        turned = compute_hashes(np.ascontiguousarray(apply_symmetry(thumbnails, symmetry)))
        np.testing.assert_array_equal(turned[:, 0], hashes[:, symmetry])


def test_different_pictures_are_not_near() -> None:
    thumbnails = read_thumbnails([compute_fingerprint(draw(seed)) for seed in range(60)])
    assert list(find_near_pairs(thumbnails, np.arange(60), distance=8)) == []


def test_details_have_zero_mean_and_unit_length() -> None:
    details = compute_details(read_thumbnails([compute_fingerprint(draw(0))]))
    assert abs(float(details.mean())) < 1e-6
    assert float((details**2).sum()) == pytest.approx(1, abs=1e-5)


def spot(value: float, size: int) -> Array:
    image = np.zeros((128, 128), np.float32)
    image[60 : 60 + size, 60 : 60 + size] = value
    return image


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64), np.uint8),
        np.full((64, 64, 3), 255, np.uint8),
        np.full((10, 12), 3.5),
        spot(1000, 1),
        spot(255, 6),
        np.full((20, 20), np.nan),
        np.zeros((0, 5)),
        np.zeros((5, 5, 0)),
    ],
    ids=["black", "white", "constant", "hot pixel", "small spot", "nan", "no pixels", "no channels"],
)
def test_blank_images_are_not_informative(image: Array) -> None:
    assert not compute_fingerprint(image).informative


def test_a_large_spot_is_informative() -> None:
    assert compute_fingerprint(spot(255, 40)).informative


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, ">i2"])
def test_types_do_not_matter(dtype: str) -> None:
    image = draw(5)
    assert compare(image, image.astype(dtype))[:2] == (0, pytest.approx(1, abs=1e-3))


def test_values_that_are_not_finite_do_no_harm() -> None:
    image = draw(6).astype(np.float64)
    broken = image.copy()
    broken[3, 4], broken[5, 6], broken[7, 8] = np.nan, np.inf, 1e300
    fingerprint = compute_fingerprint(broken)
    assert np.isfinite(read_thumbnails([fingerprint])).all()
    distance, correlation, _ = compare(image, np.where(np.isfinite(broken) & (broken < 1e9), broken, 0.0))
    assert distance <= 2
    assert correlation > 0.9


def test_one_bit_images_work() -> None:
    image = draw(7) > 120
    assert compare(image.astype(np.uint8) * 255, image)[:2] == (0, pytest.approx(1, abs=1e-3))


def test_large_pictures_are_reduced_before_they_are_resized() -> None:
    image = draw(8, (1100, 1500))
    assert compare(image, halve(image))[:2] == (pytest.approx(0, abs=2), pytest.approx(1, abs=0.01))
    assert compare(image, image.astype(np.float32))[0] <= 2


@pytest.mark.parametrize(
    "change",
    [lambda v: v[:, :, ::-1], lambda v: v[::-1], lambda v: zoom(v, 0.5, order=1), lambda v: v[..., None] * 3.0 + 1],
    ids=["slices reversed", "flipped", "half size", "other scale, 4-D"],
)
def test_volumes_stay_recognisable(change: Callable[[Array], Array]) -> None:
    volume = gaussian_filter(np.random.default_rng(0).normal(size=(60, 50, 40)), 4).astype(np.float32)
    distance, correlation, _ = compare(volume, change(volume))
    assert distance <= 6
    assert correlation >= 0.9


def test_fingerprints_are_small_and_comparable() -> None:
    fingerprint = compute_fingerprint(draw(0))
    assert isinstance(fingerprint, Fingerprint)
    assert len(fingerprint.thumbnail) == 2 * SIDE * SIDE
    assert fingerprint == compute_fingerprint(draw(0))
    assert fingerprint != compute_fingerprint(draw(1))


def test_damaged_fingerprints_are_refused() -> None:
    with pytest.raises(ValueError, match="a thumbnail has 2048 bytes, got 3"):
        Fingerprint(b"abc", informative=True)


def test_decoded_images_carry_a_fingerprint_and_masks_do_not() -> None:
    assert summarise_pixels(draw(0), False).fingerprint == compute_fingerprint(draw(0))
    assert summarise_pixels(draw(0), True).fingerprint is None


def as_set(blocks: list[NearPairs]) -> set[tuple[int, int, int, int]]:
    return {
        row
        for pairs in blocks
        for row in zip(
            pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), pairs.symmetry.tolist(), strict=True
        )
    }


@pytest.fixture(scope="module")
def crowd() -> Array:
    """40 thumbnails of which some are noisy, turned copies of others."""
    rng = np.random.default_rng(0)
    own = gaussian_filter(rng.normal(size=(25, SIDE, SIDE)), (0, 2, 2))
    copies = [apply_symmetry(own[i % 25], i % 8) + rng.normal(0, 0.01, (SIDE, SIDE)) for i in range(15)]
    return np.concatenate([own, copies]).astype(np.float32)


def test_search_agrees_with_comparing_one_by_one(crowd: Array) -> None:
    hashes, details = compute_hashes(crowd), compute_details(crowd)
    expected = set()
    for i in range(len(crowd)):
        for j in range(i + 1, len(crowd)):
            tries = []
            for s in range(8):
                distance = int(np.count_nonzero(hashes[i, 0] != hashes[j, s]))
                correlation = float((details[i] * apply_symmetry(details[j], s)).sum())
                if distance <= 12 and correlation >= 0.7:
                    tries.append((-correlation, distance, s))
            if tries:
                _, distance, s = min(tries)
                expected.add((i, j, distance, s))
    found = as_set(list(find_near_pairs(crowd, np.arange(len(crowd)), distance=12, min_correlation=0.7)))
    assert len(expected) >= 15
    assert found == expected


def test_blocks_do_not_change_the_answer(crowd: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.arange(len(crowd))
    whole = as_set(list(find_near_pairs(crowd, groups, distance=8)))
    monkeypatch.setattr(near, "_ROWS", 3)
    monkeypatch.setattr(near, "_PAIRS", 2)
    blocks = list(find_near_pairs(crowd, groups, distance=8))
    assert len(blocks) > 3
    assert as_set(blocks) == whole


def test_images_of_one_group_are_not_compared(crowd: Array) -> None:
    assert list(find_near_pairs(crowd, np.zeros(len(crowd), np.int64), distance=63, min_correlation=-1)) == []
    groups = np.arange(len(crowd)) // 2
    for pairs in find_near_pairs(crowd, groups, distance=63, min_correlation=-1):
        assert (groups[pairs.first] != groups[pairs.second]).all()


def test_a_pair_is_found_once(crowd: Array) -> None:
    blocks = list(find_near_pairs(crowd, np.arange(len(crowd)), distance=63, min_correlation=-1))
    pairs = [pair[:2] for pair in as_set(blocks)]
    assert len(pairs) == len(set(pairs)) == len(crowd) * (len(crowd) - 1) // 2
