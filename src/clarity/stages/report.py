"""Report: placeholder."""
