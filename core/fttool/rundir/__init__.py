"""The run directory: everything needed to understand a run, to go on with it and to make it again.

Read `record.py` first, then `checkpoints.py`; `lines.py`, `writer_lock.py`, `code.py`, `commit.py` and `signing.py` are
what they are made of, and `saved.py` reads a finished model.
"""
