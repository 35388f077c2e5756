"""What people read of a run: the dry run and the closing screen.

Of the run itself they are told by values; nothing of the run imports them.
"""
