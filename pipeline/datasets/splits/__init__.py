"""Patient-level splits: folds, shares, named splits."""
