"""A run before its first update, stage by stage: a frozen value each, made by one function from the stage before.

Read `setup.py`, `rows.py`, `model.py` with `batches.py`, `update.py`, `plan.py`, `loop.py`.
"""
