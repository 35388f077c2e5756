"""Files of rows, of any format that is read, as raw rows with their line.

Read `source.py` first: it says which reader a path gets. `reader.py` and `folder.py` are those; the others are what
they read with.
"""
