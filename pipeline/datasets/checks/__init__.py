"""Checks of a dataset against its manifest."""
