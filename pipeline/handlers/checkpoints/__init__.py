"""Write checkpoints that survive a kill, and load weights before a run."""
