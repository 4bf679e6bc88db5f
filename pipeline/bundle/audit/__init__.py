"""Audit a bundle."""
