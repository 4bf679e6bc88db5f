"""RandCopyChannel and RandGammaByChannel: reproducible, independent by channel, input untouched."""

import copy

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.data.utils import set_rnd
from monai.transforms import Compose, Flip, Flipd

from pipeline.transforms import RandCopyChannel, RandCopyChanneld, RandGammaByChannel, RandGammaByChanneld


def make_image(seed=0, channels=3):
    return torch.as_tensor(np.random.default_rng(seed).normal(5, 2, (channels, 6, 5, 4)), dtype=torch.float32)


def copy_channel(prob=0.5):
    return RandCopyChannel(source=1, targets=[0, 2], prob=prob)


def copy_channeld(prob=0.5, keys="image"):
    return RandCopyChanneld(keys, source=1, targets=[0, 2], prob=prob)


def gamma(prob=0.5):
    return RandGammaByChannel((0.5, 2.0), prob=prob)


def gammad(prob=0.5, keys="image"):
    return RandGammaByChanneld(keys, (0.5, 2.0), prob=prob)


ARRAY = pytest.mark.parametrize("build", [copy_channel, gamma])
DICTIONARY = pytest.mark.parametrize("build", [copy_channeld, gammad])


@ARRAY
def test_same_seed_same_series_other_seed_other_series(build):
    image = make_image()
    series = []
    for seed in (1, 1, 2):
        transform = build()
        transform.set_random_state(seed=seed)
        series.append(torch.stack([transform(image) for _ in range(12)]))
    assert torch.equal(series[0], series[1])
    assert not torch.equal(series[0], series[2])
    assert len({tuple(result.flatten().tolist()) for result in series[0]}) > 1


@DICTIONARY
@pytest.mark.parametrize("seeding", ["set_random_state", "set_rnd", "compose"])
def test_dictionary_versions_follow_every_way_of_seeding(build, seeding):
    series = []
    for seed in (1, 1, 2):
        transform = Compose([build()]) if seeding == "compose" else build()
        if seeding == "set_rnd":
            set_rnd(transform, seed)
        else:
            transform.set_random_state(seed=seed)
        series.append(torch.stack([transform({"image": make_image()})["image"] for _ in range(12)]))
    assert torch.equal(series[0], series[1])
    assert not torch.equal(series[0], series[2])


@DICTIONARY
def test_set_random_state_returns_the_transform(build):
    transform = build()
    assert transform.set_random_state(seed=1) is transform


@DICTIONARY
def test_cached_item_is_never_changed(build):
    dataset = CacheDataset(
        [{"image": make_image()}], Compose([Flipd("image", 0), build(prob=1.0)]), copy_cache=False, progress=False
    )
    cached = copy.deepcopy(dataset._cache[0]["image"])
    results = [dataset[0]["image"] for _ in range(3)]
    assert torch.equal(dataset._cache[0]["image"], cached)
    assert all(not torch.equal(result, cached) for result in results)


@ARRAY
def test_probability_0_changes_nothing_and_1_changes_every_target(build):
    image = make_image()
    for _ in range(20):
        assert torch.equal(build(prob=0.0)(image), image)
        changed = build(prob=1.0)(image)
        assert [torch.equal(changed[c], image[c]) for c in (0, 2)] == [False, False]


@ARRAY
def test_channels_are_drawn_independently_and_as_often_as_asked(build):
    image = make_image()
    transform = build(prob=0.3)
    transform.set_random_state(seed=0)
    draws = []
    for _ in range(600):
        result = transform(image)
        draws.append([not torch.equal(result[c], image[c]) for c in (0, 2)])
    changed = np.array(draws)
    assert changed.mean(axis=0) == pytest.approx([0.3, 0.3], abs=0.07)
    assert changed.all(axis=1).mean() == pytest.approx(0.09, abs=0.04)


@ARRAY
def test_input_and_meta_data_are_kept(build):
    image = Flip(0)(MetaTensor(make_image(), meta={"filename_or_obj": "a"}))
    before = image.as_tensor().clone()
    result = build(prob=1.0)(image)
    assert torch.equal(image.as_tensor(), before)
    assert isinstance(result, MetaTensor)
    assert result.meta["filename_or_obj"] == "a"
    assert [step["class"] for step in result.applied_operations] == ["Flip"]


@ARRAY
def test_a_draw_can_be_applied_again(build):
    image = make_image()
    transform = build(prob=0.5)
    for _ in range(8):
        assert torch.equal(transform(image), transform(image, randomize=False))


@DICTIONARY
def test_one_draw_holds_for_all_keys(build):
    transform = build(prob=0.5, keys=["image", "other"])
    transform.set_random_state(seed=3)
    image = make_image()
    outcomes = set()
    for _ in range(20):
        result = transform({"image": image, "other": image.clone(), "label": 7})
        assert torch.equal(result["image"], result["other"])
        assert result["label"] == 7
        outcomes.add(tuple(result["image"].flatten().tolist()))
    assert len(outcomes) > 2


@pytest.mark.parametrize("kind", [RandCopyChanneld, RandGammaByChanneld])
def test_missing_keys(kind):
    arguments = {"source": 1, "targets": [0], "prob": 1.0} if kind is RandCopyChanneld else {"prob": 1.0}
    data = {"image": make_image()}
    result = kind(["absent", "image"], allow_missing_keys=True, **arguments)(data)
    assert not torch.equal(result["image"], data["image"])
    with pytest.raises(KeyError):
        kind(["absent", "image"], **arguments)(data)


def test_copy_takes_the_source():
    image = make_image(channels=4)
    result = RandCopyChannel(source=1, targets=[0, 2], prob=1.0)(image)
    assert all(torch.equal(result[c], image[s]) for c, s in enumerate((1, 1, 1, 3)))


def test_copy_onto_itself_is_refused():
    with pytest.raises(ValueError, match=r"source channel 1 is among the targets \[0, 1\]"):
        RandCopyChannel(source=1, targets=[0, 1])


def test_gamma_keeps_mean_deviation_and_order():
    image = make_image()
    transform = gamma(prob=1.0)
    for seed in range(10):
        transform.set_random_state(seed=seed)
        result = transform(image)
        for before, after in zip(image, result, strict=True):
            torch.testing.assert_close(after.mean(), before.mean(), rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(after.std(), before.std(), rtol=1e-4, atol=1e-4)
            assert torch.equal(after.flatten().argsort(), before.flatten().argsort())


def test_gamma_by_hand():
    # gamma 2 maps 0, 1/2, 1 to 0, 1/4, 1: mean 5/12, deviation sqrt(39)/12; the channel has mean 4, deviation 2
    image = torch.tensor([[2.0, 4.0, 6.0]])
    result = RandGammaByChannel((2.0, 2.0), prob=1.0)(image)
    scale = 2 * 12 / 39**0.5
    expected = [[(x - 5 / 12) * scale + 4 for x in (0, 0.25, 1)]]
    torch.testing.assert_close(result, torch.tensor(expected))


def test_gammas_are_log_uniform():
    transform = RandGammaByChannel((0.25, 4.0), prob=1.0)
    transform.set_random_state(seed=0)
    transform.randomize(4000)
    logs = np.log(transform._gammas) / np.log(4)
    assert np.abs(logs).max() <= 1
    assert np.histogram(logs, bins=4, range=(-1, 1))[0] == pytest.approx([1000] * 4, rel=0.1)


@pytest.mark.parametrize("value", [0.0, -2.5, 0.1])
def test_gamma_leaves_constant_channels(value):
    image = make_image()
    image[1] = value
    result = gamma(prob=1.0)(image)
    assert torch.equal(result[1], image[1])
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("pair", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0,), (0.5, 1.0, 2.0)])
def test_gamma_must_be_a_pair_of_positive_numbers(pair):
    with pytest.raises(ValueError, match="pair of positive numbers, smaller first"):
        RandGammaByChannel(pair)
