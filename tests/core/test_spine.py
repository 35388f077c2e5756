"""The core is read in one sitting: what a reader must know is short; so is each function and file, of plugins too."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

from ..docs.pages import reference

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "fttool"
PLUGINS = ROOT / "plugins" / "fttool_plugins"
FILES = [*sorted(CORE.rglob("*.py")), *sorted(PLUGINS.rglob("*.py"))]
NO_CODE = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
)


def lines_of_code(file: Path) -> int:
    """Lines without imports, docstrings, comments and blanks."""
    text = file.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if docstring or types or isinstance(node, ast.Import | ast.ImportFrom):
            left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    return len(code - left_out)


def test_lines_of_code_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    docstrings = '"""A\ndocstring."""\n\nA = [\n    1,\n]\n"""Of A."""\n'
    text = f'{docstrings}\nimport os\n\n# a comment\n\n\ndef f():\n    return """\n"""\n'
    file.write_text(text)
    assert lines_of_code(file) == 6


def test_what_a_reader_must_know_is_short() -> None:
    spine = [CORE / f"{name}.py" for name in reference.SPINE.split()]
    assert sum(map(lines_of_code, spine)) <= 2600


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_file_and_no_function_is_long(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 45, node.name


def test_every_package_says_what_is_in_it() -> None:
    for file in CORE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), file
