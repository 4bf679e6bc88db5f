"""Predict any images with a bundle's own inference, one command for all of them."""
