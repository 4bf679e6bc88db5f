"""Manifests: cases of a dataset as frozen data, read and written as JSON."""
