"""Train nnU-Net for a given time of the processor, then predict the validation cases, with one thread.

`benchmarks/nnunet.py` runs this file in nnU-Net's environment: the folder of the preprocessed data set and the name of
a configuration are its arguments. nnU-Net's own command is not used: it imports all trainers to find one, and with them
torchvision, which need not fit a CPU build of torch.

The learning rate falls with the time that is used as it falls with the epochs in nnU-Net, so that a short training ends
with a small one. ``NNUNET_SECONDS`` is the time, ``NNUNET_OPTIMIZER`` ``sgd`` (nnU-Net's own) or ``adam``,
``NNUNET_BATCH`` the batch size instead of that of the plan, and ``NNUNET_BF16`` 1 for bfloat16 on a CPU.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # type: ignore[import-not-found]

# So many steps are an epoch here: the clock is read after each.
_STEPS = 10
_RATES = {"sgd": 1e-2, "adam": 1e-3}


class TrainerForSeconds(nnUNetTrainer):  # type: ignore[misc]
    """nnU-Net's trainer with a budget of time instead of epochs."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")) -> None:  # type: ignore[no-untyped-def]  # noqa: B008
        batch = os.environ.get("NNUNET_BATCH")
        if batch:
            plans["configurations"][configuration]["batch_size"] = int(batch)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.seconds = float(os.environ["NNUNET_SECONDS"])
        self.kind = os.environ.get("NNUNET_OPTIMIZER", "sgd")
        self.initial_lr = _RATES[self.kind]
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = _STEPS, 1
        self.num_epochs = 1_000_000
        self.save_every = self.num_epochs
        self.began = time.process_time()

    def configure_optimizers(self):  # type: ignore[no-untyped-def]
        """Return nnU-Net's SGD or Adam, and a schedule that does nothing: the rate is set by the time."""
        optimizer, scheduler = super().configure_optimizers()
        if self.kind == "adam":
            optimizer = torch.optim.Adam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        scheduler.step = lambda *_: None
        return optimizer, scheduler

    def train_step(self, batch):  # type: ignore[no-untyped-def]
        """Set the rate, then train a step; on a CPU in bfloat16 if that was asked for."""
        used = (time.process_time() - self.began) / self.seconds
        for group in self.optimizer.param_groups:
            group["lr"] = self.initial_lr * max(1.0 - used, 0.001) ** 0.9
        if used >= 1:
            return {"loss": np.array(0.0)}
        with torch.autocast("cpu", torch.bfloat16, enabled=os.environ.get("NNUNET_BF16") == "1"):
            return super().train_step(batch)

    def on_epoch_end(self) -> None:
        """End after the time."""
        super().on_epoch_end()
        if time.process_time() - self.began >= self.seconds:
            self.num_epochs = self.current_epoch

    def run_training(self) -> None:
        """Train until the time is over, and say how many steps that were."""
        self.on_train_start()
        self.began = time.process_time()
        while self.current_epoch < self.num_epochs:
            self.on_epoch_start()
            self.on_train_epoch_start()
            outputs = [self.train_step(next(self.dataloader_train)) for _ in range(self.num_iterations_per_epoch)]
            self.on_train_epoch_end(outputs)
            with torch.no_grad():
                self.on_validation_epoch_start()
                self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val))])
            self.on_epoch_end()
        Path(self.output_folder, "steps.txt").write_text(f"{self.current_epoch * self.num_iterations_per_epoch}")
        self.on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the validation cases; on a CPU in bfloat16 if that was asked for."""
        with torch.autocast("cpu", torch.bfloat16, enabled=os.environ.get("NNUNET_BF16") == "1"):
            super().perform_actual_validation(save_probabilities)


def main() -> None:
    """Train, unless that was done before, and predict."""
    torch.set_num_threads(1)
    folder, configuration = Path(sys.argv[1]), sys.argv[2]
    plans, facts = (json.loads((folder / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))
    plans["continue_training"] = False
    trainer = TrainerForSeconds(plans, configuration, 0, facts, torch.device("cpu"))
    trained = Path(trainer.output_folder, "checkpoint_final.pth")
    if trained.is_file():
        trainer.load_checkpoint(str(trained))
    else:
        trainer.run_training()
    trainer.perform_actual_validation()


if __name__ == "__main__":
    main()
