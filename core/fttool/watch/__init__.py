"""Who is told what happens in a run: its directory, the screen, observers and trackers.

Read `watch.py` first: what happens is told there, once. The others are those who hear of it.
"""
