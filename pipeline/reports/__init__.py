"""Reports of datasets and runs, printed or as HTML."""
