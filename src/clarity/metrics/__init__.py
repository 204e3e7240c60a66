"""Metrics: what the maps of a cell are judged by, Quantus' metrics and CLarity's own."""
