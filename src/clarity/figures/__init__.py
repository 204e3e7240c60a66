"""Figures: drawn from stored artifacts and tables; they compute no score and no statistic."""
