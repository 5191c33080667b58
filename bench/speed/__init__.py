"""How fast the harness is, beside other programs for the same work, in one run."""
