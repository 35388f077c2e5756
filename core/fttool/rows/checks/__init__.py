"""What is wrong with rows, or unusual: columns that nobody reads, marks and verdicts, classes that look like
one, tokens that inference would not see.

`datasets.py` and `data.py` beside this folder call them, row by row; each file is one idea and stands alone.
"""
