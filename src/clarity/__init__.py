"""CLarity: do contrastive and metric-learning losses give classifiers better explanations?

The library behind the workflow: data, losses, training, attribution, metrics and statistics. It
knows nothing of Snakemake, and this module imports none of its parts, so that the Snakefile can
read the config without loading torch.
"""

__version__ = "0.1.0"
