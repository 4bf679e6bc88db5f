"""Checks of single files of a bundle, and of the archive that holds them."""
