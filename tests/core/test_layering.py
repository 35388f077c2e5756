"""Core imports no strategy and nothing upwards; strategies import nothing of core but `fttool.api`."""

from pathlib import Path

from importlinter.cli import lint_imports


def test_the_layers_hold() -> None:
    assert lint_imports(config_filename=str(Path(__file__).parents[2] / "pyproject.toml"), no_cache=True) == 0
