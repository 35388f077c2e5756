"""Verbs that belong to strategies: one file each, found through the entry-point group `fttool.commands.v1`.

The first line of a file's docstring is what `fttool --help` says of its verb.
"""
