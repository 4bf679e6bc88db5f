"""Masks: values to labels, objects, weights."""
