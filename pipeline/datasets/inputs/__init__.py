"""Find the inputs of inference: images, stacks of slices, volumes."""
