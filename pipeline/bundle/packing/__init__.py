"""Bundles in one file: unpack them completely or not at all."""
