"""Checks of what configs say: classes, expressions, references, macros. Nothing is imported or evaluated."""
