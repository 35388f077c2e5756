"""Files of rows, whatever reads them: opened and unpacked, unchanged to their end, hashed.

Read `source.py` first: what a path names. `file.py` is one file, `tree.py` a folder of them, and `remote.py` brings
files here that a recipe names elsewhere.
"""
