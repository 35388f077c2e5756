"""Advice: rules that say what would come of a valid recipe, each with a figure that was measured.

A rule is a module with `rule`, an entry point of the group `fttool.advice.v1` in `pyproject.toml`, a section of
`docs/advice.md` and a pair of runs in `tests/benchmarks/advice.py` that proves it; a rule that only counts is held to a
naive twin by a test instead. Modules import no torch.
"""

DOCS = "docs/advice.md"
"""The page with a section for each rule."""
