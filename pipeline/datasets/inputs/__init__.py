"""What inference reads: images, stacks of slices, volumes."""
