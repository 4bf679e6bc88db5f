"""Checkpoints that survive a kill, and weights that are loaded before a run."""
