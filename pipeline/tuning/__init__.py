"""Post-processing tuned on validation cases: ``pipeline tune``.

The network runs once per case and its probabilities are stored (`predictions`). The bundle's switchable post-processing
is built with many values of its knobs (`chain`), each case is scored with each of them (`scores`), and a step is
switched on only if it helps subjects that had no part in choosing its values (`choice`).
"""
