"""The output folder and the end of a run: lock, record, orderly stop, errors in one line."""
