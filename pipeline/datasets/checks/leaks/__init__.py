"""Checks for leaks: data that training shares with validation or test."""
