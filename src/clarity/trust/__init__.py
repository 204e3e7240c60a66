"""Trust: how far a trained classifier can be relied on, beside how well it explains itself."""
