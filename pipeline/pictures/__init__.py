"""Contours, overlays, planes and galleries: arrays in, images out."""
