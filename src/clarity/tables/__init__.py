"""Tables: from the score files of a grid to the tables of a paper."""
