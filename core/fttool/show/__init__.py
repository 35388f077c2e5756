"""What people read of a run: the dry run, the closing screen, and runs side by side.

Of the run itself they are told by values; nothing of the run imports them.
"""
