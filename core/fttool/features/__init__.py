"""Features of a base model that never trains: computed once per row and kept, so an update costs the head alone.

Read `backbone.py` first, then `observed.py` (what is to be kept?) and `cache.py` (where is it kept?).
"""
