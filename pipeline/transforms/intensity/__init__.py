"""Intensities and channels of images."""
