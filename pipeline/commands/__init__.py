"""One module per command: its arguments and its run; the work is done in other rooms."""
