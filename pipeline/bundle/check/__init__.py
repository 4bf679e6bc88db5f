"""Find what would fail when a bundle runs, before it runs and without data."""
