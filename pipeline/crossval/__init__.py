"""Cross-validation: every fold trained and evaluated through the bundle's own configs, and one report over all of them.

Each fold is a training and an evaluation as a user would type them, in processes of their own, one after the other here
or side by side on a Ray cluster.
"""
