"""Small synthetic datasets in the layouts of real ones, with known truth."""

from pipeline.datasets.phantoms.lgg import write_lgg_phantom

__all__ = ["write_lgg_phantom"]
