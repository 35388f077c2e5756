"""A proof on the run's own model, before its first update, of what batches and tasks assume of all models.

Read `proving.py` first, then `assumptions.py` and `properties.py`, the comparisons; `probe.py` is the rows that they
are made on. What a comparison finds is in `training/proof.py`.
"""
