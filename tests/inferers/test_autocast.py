"""AutocastInferer: float32 output, bfloat16 inside if requested or supported."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SliceInferer

from pipeline.inferers import AutocastInferer, supports_bfloat16
from pipeline.issues import InputError


class Recorder(torch.nn.Module):
    """Two convolutions that note what arrives and in which precision they compute."""

    def __init__(self, dims=2):
        super().__init__()
        torch.manual_seed(0)
        conv = torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d
        self.first, self.second = conv(2, 4, 3, padding=1), conv(4, 1, 1)
        self.inputs, self.dtypes, self.extra = [], [], []

    def forward(self, x, *args, **kwargs):
        self.inputs.append(x)
        self.extra.append((args, kwargs))
        x = self.second(self.first(x).relu())
        self.dtypes.append(x.dtype)
        return x


def make_batch(*shape):
    return torch.randn(shape or (3, 2, 8, 6), generator=torch.Generator().manual_seed(1))


def test_without_amp_nothing_changes():
    network, batch = Recorder(), make_batch()
    result = AutocastInferer(SimpleInferer(), amp=False, channels_last=False)(batch, network)
    assert torch.equal(result, network(batch))
    assert network.dtypes == [torch.float32, torch.float32]


@pytest.mark.parametrize("switch", [True, "true"])
def test_channels_last_changes_the_layout_only(switch):
    network, batch = Recorder(), make_batch()
    result = AutocastInferer(SimpleInferer(), amp=False, channels_last=switch)(batch, network)
    torch.testing.assert_close(result, network(batch))
    assert network.inputs[0].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(network.inputs[0], batch)
    assert batch.is_contiguous()


@pytest.mark.parametrize(
    ("capability", "groups", "training", "expected"),
    [
        ("AVX512", 1, True, True),
        ("AVX2", 1, True, False),  # gradients of weights are slow there
        ("AVX2", 1, False, True),
        ("AVX2", 4, True, True),
        ("DEFAULT", 1, True, True),
    ],
)
def test_the_layout_follows_processor_network_and_mode(monkeypatch, capability, groups, training, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network, batch = Recorder(), make_batch()
    network.second = torch.nn.Conv2d(4, 4, 1, groups=groups)
    with torch.set_grad_enabled(training):
        result = AutocastInferer(SimpleInferer(), amp=False)(batch, network)
    assert network.inputs[0].is_contiguous(memory_format=torch.channels_last) is expected
    torch.testing.assert_close(result, network(batch))


def test_with_amp_the_network_computes_in_bfloat16_and_the_result_is_float32():
    network, batch = Recorder(), make_batch()
    result = AutocastInferer(SimpleInferer(), amp=True)(batch, network)
    exact = network(batch)
    assert network.dtypes == [torch.bfloat16, torch.float32]
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, exact, rtol=0.05, atol=0.05)
    assert not torch.equal(result, exact)


@pytest.mark.parametrize("supported", [True, False])
def test_auto_follows_the_hardware(monkeypatch, supported):
    asked = []
    monkeypatch.setattr(
        "pipeline.inferers.autocast.supports_bfloat16", lambda device_type: asked.append(device_type) or supported
    )
    network = Recorder()
    AutocastInferer(SimpleInferer())(make_batch(), network)
    assert network.dtypes == [torch.bfloat16 if supported else torch.float32]
    assert asked == ["cpu"]


@pytest.mark.parametrize(("text", "dtype"), [("true", torch.bfloat16), ("false", torch.float32)])
def test_switch_may_be_text(text, dtype):
    network = Recorder()
    AutocastInferer(SimpleInferer(), amp=text)(make_batch(), network)
    assert network.dtypes == [dtype]


@pytest.mark.parametrize("amp", ["bf16", "", None, 2])
def test_other_switches_are_refused(amp):
    with pytest.raises(InputError, match="--amp must be true or false"):
        AutocastInferer(SimpleInferer(), amp=amp)


def test_other_layouts_are_refused():
    with pytest.raises(InputError, match="--channels_last must be true or false"):
        AutocastInferer(SimpleInferer(), channels_last="nhwc")


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("sw_batch_size", [1, 4])
def test_slice_inferer_on_a_volume_equals_slice_by_slice(amp, sw_batch_size):
    network, volume = Recorder(), make_batch(1, 2, 8, 6, 5)
    slices = SliceInferer(roi_size=(-1, -1), spatial_dim=2, sw_batch_size=sw_batch_size)
    result = AutocastInferer(slices, amp=amp)(volume, network)
    assert set(network.dtypes) == {torch.bfloat16 if amp else torch.float32}
    assert result.shape == (1, 1, 8, 6, 5)
    assert result.dtype == torch.float32
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        for k in range(5):
            torch.testing.assert_close(result[..., k], network(volume[..., k]).float(), rtol=1e-2, atol=1e-2)


def test_gradients_flow_in_float32():
    network, batch = Recorder(), make_batch()
    gradients = []
    for amp in (False, True):
        network.zero_grad()
        AutocastInferer(SimpleInferer(), amp=amp)(batch, network).square().mean().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters()])
    for exact, mixed in zip(*gradients, strict=True):
        assert mixed.dtype == torch.float32
        assert mixed.abs().sum() > 0
        torch.testing.assert_close(mixed, exact, rtol=0.1, atol=0.05)


def test_autocast_ends_with_the_call():
    AutocastInferer(SimpleInferer(), amp=True)(make_batch(), Recorder())
    assert not torch.is_autocast_enabled("cpu")


def test_network_gets_plain_tensors_and_the_volume_keeps_its_meta_data():
    network = Recorder()
    volume = MetaTensor(make_batch(1, 2, 8, 6, 3), meta={"filename_or_obj": "a"})
    result = AutocastInferer(SliceInferer(roi_size=(-1, -1), spatial_dim=2), amp=False)(volume, network)
    assert {type(x) for x in network.inputs} == {torch.Tensor}
    assert isinstance(result, MetaTensor)
    assert result.meta["filename_or_obj"] == "a"
    AutocastInferer(SimpleInferer(), amp=False)(MetaTensor(make_batch()), network)
    assert type(network.inputs[-1]) is torch.Tensor


def test_a_prediction_finds_the_way_back_to_the_files_grid(tmp_path):
    """MONAI's Invertd passes by what has no meta data, with a warning only."""
    from monai.data import DataLoader, Dataset
    from monai.engines import SupervisedEvaluator
    from monai.transforms import Compose, Invertd, LoadImaged, Resized
    from PIL import Image

    Image.fromarray(np.zeros((9, 13, 3), np.uint8)).save(tmp_path / "a.png")
    load = LoadImaged("image", reader="PILReader", reverse_indexing=False, ensure_channel_first=True)
    before = Compose([load, Resized("image", [8, 8])])
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": str(tmp_path / "a.png")}], before), batch_size=1),
        network=torch.nn.Conv2d(3, 1, 1),
        inferer=AutocastInferer(SimpleInferer(), amp=False),
        postprocessing=Invertd("pred", before, orig_keys="image", nearest_interp=False),
    )
    evaluator.run()
    pred = evaluator.state.output[0]["pred"]
    assert pred.shape == (1, 9, 13)
    assert pred.meta["filename_or_obj"] == str(tmp_path / "a.png")


def test_losses_get_plain_predictions():
    batch = MetaTensor(make_batch(), meta={"filename_or_obj": "a"})
    result = AutocastInferer(SimpleInferer(), amp=False)(batch, Recorder())
    assert type(result) is torch.Tensor
    assert result.requires_grad


def test_volumes_are_not_laid_out_channels_last():
    network, volume = Recorder(dims=3), make_batch(1, 2, 4, 4, 4)
    result = AutocastInferer(SimpleInferer(), amp=False)(volume, network)
    assert torch.equal(result, network(volume))
    assert network.inputs[0].is_contiguous()


def test_further_arguments_reach_the_network():
    network = Recorder()
    AutocastInferer(SimpleInferer(), amp=False)(make_batch(), network, 7, scale=2)
    assert network.extra == [((7,), {"scale": 2})]


@pytest.mark.parametrize(("avx", "amx", "expected"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_cpu_support(monkeypatch, avx, amx, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bool(avx), raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: bool(amx), raising=False)
    assert supports_bfloat16("cpu") is expected


def test_cpu_without_probes_is_unsupported(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert supports_bfloat16("cpu") is False


@pytest.mark.parametrize(("available", "native"), [(False, True), (True, False), (True, True)])
def test_cuda_support_needs_the_hardware_not_an_emulation(monkeypatch, available, native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert supports_bfloat16("cuda") is (available and native)


def test_other_devices_are_unsupported():
    assert supports_bfloat16("mps") is False


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_of_deep_supervision_are_float32_too(amp, kind):
    network, batch = Recorder(), make_batch()
    result = AutocastInferer(SimpleInferer(), amp=amp)(batch, lambda x: kind([network(x), network.first(x)]))
    assert type(result) is kind
    assert [item.dtype for item in result] == [torch.float32] * 2
    torch.testing.assert_close(result[1], network.first(batch), rtol=0.05, atol=0.05)
