"""Report: one page that holds the answer, the tables, the figures and where they come from."""
