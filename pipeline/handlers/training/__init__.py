"""What happens at every step and epoch: seed, clipping, guard against NaN, early stop, threshold."""
