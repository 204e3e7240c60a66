"""Data: where images come from, and the fixed evaluation set of each dataset."""
