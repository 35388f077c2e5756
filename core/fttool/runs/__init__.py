"""Runs: prepared, made, resumed and branched off; their directories, what they show, and their comparison."""
