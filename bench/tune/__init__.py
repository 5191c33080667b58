"""Tuning: every strategy of a grid has the same number of trials, which are cells; the best make another grid file."""
