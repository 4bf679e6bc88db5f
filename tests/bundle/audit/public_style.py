"""Configs in the style of well-known public bundles: written here from how such bundles look, with nothing copied."""

from __future__ import annotations

from typing import Any

from tests.bundle.audit.bundles import METADATA, Files, encode, make_files

CT: dict[str, Any] = {
    "imports": ["$import glob", "$import os", "$import ignite", "$import torch.distributed as dist"],
    "bundle_root": ".",
    "ckpt_dir": "$@bundle_root + '/models'",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "/workspace/data/Task09_Spleen",
    "images": "$list(sorted(glob.glob(@dataset_dir + '/imagesTr/*.nii.gz')))",
    "labels": "$list(sorted(glob.glob(@dataset_dir + '/labelsTr/*.nii.gz')))",
    "val_interval": 5,
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "network_def": {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 2, "norm": "batch"},
    "network": "$@network_def.to(@device)",
    "loss": {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True},
    "optimizer": {"_target_": "Novograd", "params": "$@network.parameters()", "lr": 0.002},
    "train": {
        "deterministic_transforms": [
            {"_target_": "LoadImaged", "keys": ["image", "label"], "reader": "ITKReader"},
            {"_target_": "EnsureChannelFirstd", "keys": ["image", "label"]},
            {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57, "a_max": 164, "b_min": 0, "b_max": 1},
        ],
        "random_transforms": [{"_target_": "RandCropByPosNegLabeld", "keys": ["image", "label"], "label_key": "label"}],
        "preprocessing": {
            "_target_": "Compose",
            "transforms": "$@train#deterministic_transforms + @train#random_transforms",
        },
        "dataset": {
            "_target_": "CacheDataset",
            "data": "$[{'image': i, 'label': l} for i, l in zip(@images[:-9], @labels[:-9])]",
            "transform": "@train#preprocessing",
            "cache_rate": 1.0,
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": 2, "shuffle": True},
        "inferer": {"_target_": "SimpleInferer"},
        "handlers": [
            {"_target_": "ValidationHandler", "validator": "@validate#evaluator", "interval": "@val_interval"},
            {
                "_target_": "StatsHandler",
                "tag_name": "train_loss",
                "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
            },
            {"_target_": "TensorBoardStatsHandler", "log_dir": "@output_dir", "tag_name": "train_loss"},
        ],
        "key_metric": {
            "train_accuracy": {
                "_target_": "ignite.metrics.Accuracy",
                "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
            }
        },
        "trainer": {
            "_target_": "SupervisedTrainer",
            "max_epochs": 100,
            "device": "@device",
            "train_data_loader": "@train#dataloader",
            "network": "@network",
            "loss_function": "@loss",
            "optimizer": "@optimizer",
            "inferer": "@train#inferer",
            "key_train_metric": "@train#key_metric",
            "train_handlers": "@train#handlers",
            "amp": True,
        },
    },
    "validate": {
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@train#dataloader",
            "network": "@network",
            "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [96, 96, 96], "sw_batch_size": 4},
            "val_handlers": [
                {
                    "_target_": "CheckpointSaver",
                    "save_dir": "@ckpt_dir",
                    "save_dict": {"model": "@network"},
                    "save_key_metric": True,
                    "key_metric_filename": "model.pt",
                }
            ],
        }
    },
    "cudnn_opt": "$setattr(torch.backends.cudnn, 'benchmark', True)",
    "numbers": "$list(map(int, @images))",
    "initialize": ["$print('start')", "$monai.utils.set_determinism(seed=123)"],
    "run": ["$@train#trainer.run()"],
}
MULTI_GPU: dict[str, Any] = {
    "device": "$torch.device('cuda:' + os.environ['LOCAL_RANK'])",
    "network": {
        "_target_": "torch.nn.parallel.DistributedDataParallel",
        "module": "$@network_def.to(@device)",
        "device_ids": ["@device"],
    },
    "train#sampler": {"_target_": "DistributedSampler", "dataset": "@train#dataset", "shuffle": True},
    "train#dataloader#sampler": "@train#sampler",
    "train#dataloader#shuffle": False,
    "train#trainer#train_handlers": "$@train#handlers[: -2 if dist.get_rank() > 0 else None]",
    "initialize": [
        "$dist.init_process_group(backend='nccl')",
        "$torch.cuda.set_device(@device)",
        "$monai.utils.set_determinism(seed=123)",
    ],
    "finalize": ["$dist.is_initialized() and dist.destroy_process_group()"],
}
BRAIN: dict[str, Any] = {
    "imports": ["$import glob", "$import os", "$import ignite"],
    "bundle_root": ".",
    "dataset_dir": "/workspace/data/brats",
    "data_list_file_path": "$@bundle_root + '/configs/datalist.json'",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "amp": True,
    "network_def": {
        "_target_": "SegResNet",
        "blocks_down": [1, 2, 2, 4],
        "blocks_up": [1, 1, 1],
        "init_filters": 16,
        "in_channels": 4,
        "out_channels": 3,
        "dropout_prob": 0.2,
    },
    "network": "$@network_def.to(@device)",
    "load_list": "$monai.data.load_decathlon_datalist(@data_list_file_path, data_list_key='testing')",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": ["image"]},
            {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True, "channel_wise": True},
            {"_target_": "ConvertToMultiChannelBasedOnBratsClassesd", "keys": "label", "allow_missing_keys": True},
        ],
    },
    "dataset": {"_target_": "Dataset", "data": "@load_list", "transform": "@preprocessing"},
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 4},
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [240, 240, 160], "sw_batch_size": 1, "overlap": 0.5},
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {
                "_target_": "Invertd",
                "keys": "pred",
                "transform": "@preprocessing",
                "orig_keys": "image",
                "meta_keys": "pred_meta_dict",
                "nearest_interp": False,
                "to_tensor": True,
            },
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
            {"_target_": "SplitDimd", "keys": "pred", "output_postfixes": ["tc", "wt", "et"]},
            {"_target_": "Lambdad", "keys": ["pred_tc", "pred_wt"], "func": "$lambda x: torch.where(x > 0, 1, 0)"},
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "output_dir": "$@bundle_root + '/eval'",
                "output_ext": ".nii.gz",
            },
        ],
    },
    "evaluator": {
        "_target_": "SupervisedEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "postprocessing": "@postprocessing",
        "val_handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": {"model": "@network"},
            },
            {"_target_": "StatsHandler", "iteration_log": False},
        ],
        "amp": "@amp",
    },
    "checkpoint": "$os.path.join(@bundle_root, 'models', 'model.pt')",
    "found": "$os.path.exists(@checkpoint)",
    "initialize": ["$monai.utils.set_determinism(seed=0)"],
    "run": ["$@evaluator.run()"],
}

PROMPTS: dict[str, Any] = {
    "imports": [
        "$import numpy as np",
        "$import json",
        "$import pathlib",
        "$import scripts",
        "$import glob",
        "$import os",
    ],
    "bundle_root": "./",
    "output_dir": "@bundle_root",
    "patch_size": [128, 128, 128],
    "everything_labels": "$[i + 1 for i in range(132) if i + 1 not in [2, 16, 18]]",
    "metadata_path": "$@bundle_root + '/configs/metadata.json'",
    "labels_dict": {"1": "liver", "3": "spleen"},
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "image_key": "image",
    "network_def": "$monai.networks.nets.vista3d132(in_channels=1)",
    "network": "$@network_def.to(@device)",
    "input_dict": "${'image': '/home/user/data/case_1.nii.gz', 'label_prompt': [1]}",
    "preprocessing_transforms": [
        {"_target_": "LoadImaged", "keys": "@image_key", "image_only": True},
        {"_target_": "EnsureTyped", "keys": "@image_key", "device": "@device", "track_meta": True},
        {"_target_": "CastToTyped", "keys": "@image_key", "dtype": "$torch.float32"},
        {"_target_": "monai.apps.vista3d.transforms.VistaPreTransformd", "keys": "@image_key", "special_index": [25]},
    ],
    "preprocessing": {"_target_": "Compose", "transforms": "$@preprocessing_transforms "},
    "dataset": {"_target_": "Dataset", "data": "$[@input_dict]", "transform": "@preprocessing"},
    "dataloader": {"_target_": "ThreadDataLoader", "dataset": "@dataset", "batch_size": 1, "num_workers": 0},
    "inferer": {"_target_": "scripts.inferer.PromptInferer", "roi_size": "@patch_size", "overlap": 0.625},
    "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
    "checkpointloader": {
        "_target_": "CheckpointLoader",
        "load_path": "$@bundle_root + '/models/model.pt'",
        "load_dict": {"model": "@network"},
        "map_location": "@device",
    },
    "evaluator": {
        "_target_": "scripts.evaluator.PromptEvaluator",
        "device": "@device",
        "val_data_loader": "@dataloader",
        "network": "@network",
        "inferer": "@inferer",
        "hyper_kwargs": {"user_prompt": True, "everything_labels": "@everything_labels"},
        "val_handlers": "@handlers",
        "amp": True,
    },
    "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
    "run": ["$@evaluator.run()"],
}
LARGE_FILES = b"""large_files:
- path: "models/model.pt"
  url: "https://developer.download.nvidia.com/assets/Clara/monai/model.pt"
  hash_val: "0123456789abcdef0123456789abcdef"
  hash_type: "md5"
"""
METRICS: dict[str, Any] = {
    "validate#handlers": [
        {
            "_target_": "MetricsSaver",
            "save_dir": "@output_dir",
            "metrics": ["val_mean_dice"],
            "metric_details": ["val_mean_dice"],
            "batch_transform": "$lambda x: [xx['image'].meta for xx in x]",
            "summary_ops": "*",
        }
    ]
}


def make_public() -> dict[str, Files]:
    """Return bundles by name; of the last one the code must be allowed."""
    plain = {key: value for key, value in METADATA.items() if key != "data_source"} | {"data_type": "nibabel"}
    base = make_files()
    meta = {"configs/metadata.json": encode(plain)}
    ct = {"configs/train.json": encode(CT), "configs/multi_gpu_train.json": encode(MULTI_GPU)}
    scripts = {
        "scripts/__init__.py": b"",
        "scripts/inferer.py": b"import torch\n",
        "scripts/evaluator.py": b"import monai\n",
    }
    prompts = {"configs/train.json": encode(CT), "configs/inference.json": encode(PROMPTS)}
    return {
        "ct": {**base, **meta, **ct, "configs/evaluate.json": encode(METRICS), "large_files.yml": LARGE_FILES},
        "brain": {**base, **meta, "configs/train.json": encode(CT), "configs/inference.json": encode(BRAIN)},
        "prompts": {**base, **meta, **prompts, **scripts, "large_files.yml": LARGE_FILES},
    }
