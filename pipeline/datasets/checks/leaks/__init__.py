"""Leaks: what training shares with validation or test."""
