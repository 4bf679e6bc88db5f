"""Post-processing tuned on validation cases: ``pipeline tune``.

The network runs once a case and what it says is kept (`predictions`). The rest of the bundle's own post-processing is
built with many values of its knobs (`chain`), each case is scored with each (`scores`), and a step is switched on only
where it helps subjects that did not choose its values (`choice`).
"""
