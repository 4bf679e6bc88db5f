"""UNet++ in MONAI's engines: deep supervision through trainer, loss and evaluator, and the way to inference."""

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, decollate_batch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import MeanDice, from_engine
from monai.inferers import SimpleInferer
from monai.losses import DeepSupervisionLoss, DiceCELoss
from monai.transforms import Activationsd, AsDiscreted, Compose

from pipeline.inferers import AutocastInferer
from pipeline.networks import UNetPlusPlus, parameter_groups


def make_cases(count):
    """Make images of a bright disc in noise, with its mask."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    cases = []
    for _ in range(count):
        row, column = torch.randint(7, 17, (2,), generator=generator)
        label = ((y - row) ** 2 + (x - column) ** 2 < 30).float()[None]
        cases.append({"image": label + 0.3 * torch.randn(1, 24, 24, generator=generator), "label": label})
    return cases


@pytest.mark.parametrize(
    "arguments",
    [{"channels": (8, 16, 24)}, {"encoder": "resnet18", "encoder_depth": 2, "decoder_channels": (16, 8)}],
    ids=["plain", "resnet18"],
)
@pytest.mark.parametrize("deep_supervision", [True, False])
def test_trains_and_predicts_in_monais_engines(arguments, deep_supervision):
    torch.manual_seed(0)
    network = UNetPlusPlus(2, 1, 1, deep_supervision=deep_supervision, **arguments)
    losses, predictions = [], []
    cases = make_cases(8)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=20,
        train_data_loader=DataLoader(Dataset(cases), batch_size=4),
        network=network,
        optimizer=torch.optim.AdamW(parameter_groups(network, 0.01, 0.5), lr=0.01),
        loss_function=DeepSupervisionLoss(DiceCELoss(sigmoid=True)),
        inferer=AutocastInferer(SimpleInferer(), amp=False),
    )

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine):
        losses.append(from_engine(["loss"], first=True)(engine.state.output))
        predictions.append(engine.state.output)

    trainer.run()
    assert losses[-1] < 0.5 * losses[0]
    # what handlers see of a batch of four: one entry a case, with the outputs of its columns
    columns = network.columns
    assert [type(item["pred"]) for item in predictions[-1]] == [list if deep_supervision else torch.Tensor] * 4
    shapes = [[level.shape for level in item["pred"]] for item in predictions[-1] if deep_supervision]
    assert shapes == [[(1, 24, 24)] * columns] * (4 if deep_supervision else 0)

    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases), batch_size=1),
        network=network,
        inferer=AutocastInferer(SimpleInferer(), amp=False),
        postprocessing=Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)]),
        key_val_metric={"dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
    )
    evaluator.run()
    assert evaluator.state.metrics["dice"] > 0.8


def test_a_trained_network_fits_its_own_config():
    settings = {"channels": [4, 8, 12], "deep_supervision": True}
    trained = UNetPlusPlus(2, 1, 1, **settings)
    image = torch.randn(2, 1, 12, 12)
    trained(image)
    for level in (None, 1, 2):
        UNetPlusPlus(2, 1, 1, **settings, pruning_level=level).load_state_dict(trained.state_dict())


def test_decollated_lists():
    network = UNetPlusPlus(2, 1, 1, channels=[4, 8, 12], deep_supervision=True)
    outputs = network(torch.randn(3, 1, 12, 12))
    assert [[tuple(level.shape) for level in case] for case in decollate_batch(outputs)] == [[(1, 12, 12)] * 2] * 3
