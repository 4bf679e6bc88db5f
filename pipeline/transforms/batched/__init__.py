"""Augmentation of whole batches, on the device, by MONAI's own transforms and random numbers."""
