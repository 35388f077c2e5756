"""The API's page has every name that is promised and every field of it, each with its docstring."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import BaseModel

from .pages import api_page

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
PACKAGES = list(api_page.PACKAGES)


def entries() -> dict[str, list[str]]:
    """Name → the text under it; several where packages have one of the same name."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"^### ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, _, text = entry.partition("\n")
        found.setdefault(name, []).append(text)
    return found


def undocumented(package: str) -> Iterator[str]:
    for one in api_page.definitions(package):
        if not one.docstring:
            yield one.name
        yield from (f"{one.name}.{member.name}" for member in api_page.shown(one) if not member.docstring)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_and_field_has_a_docstring(package: str) -> None:
    tables = {name for name in undocumented(package) if name.startswith("Recipe.")}  # docs/recipe.md is about those
    assert set(undocumented(package)) - tables == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_each_name_is_listed_once_and_there(package: str) -> None:
    names = import_module(package).__all__
    assert names == sorted(set(names), key=names.index) and set(names) <= entries().keys()
    assert all(getattr(import_module(package), name) is not None for name in names)


def test_the_api_imports_what_it_lists() -> None:
    listed = set(import_module("fttool.api").__all__)
    assert listed == api_page.imported("fttool.api").keys()


@pytest.mark.parametrize("package", PACKAGES)
def test_the_page_has_every_field_that_there_is_at_run_time(package: str) -> None:
    page = entries()
    for name in import_module(package).__all__:
        kind = getattr(import_module(package), name)
        fields: set[str] = set()
        if dataclasses.is_dataclass(kind):
            fields = {field.name for field in dataclasses.fields(kind)}
            shown = [base for base in kind.__mro__[1:] if dataclasses.is_dataclass(base) and base.__name__ in page]
            fields -= {field.name for base in shown for field in dataclasses.fields(base)}
        elif isinstance(kind, type) and issubclass(kind, BaseModel) and name != "Recipe":
            fields = set(kind.model_fields)
        missing = {field for field in fields if f"\n- `{field}: " not in page[name][0]}
        assert missing == set(), name


def test_what_has_no_docstring_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fttool").mkdir()
    (tmp_path / "fttool" / "__init__.py").write_text(
        'from fttool.a import B, MANY, f\n\n__all__ = ["B", "MANY", "f"]\n', encoding="utf-8"
    )
    (tmp_path / "fttool" / "a.py").write_text(
        'class A:\n    """A."""\n\n    x: int\n    """Of A."""\n    y: int\n\n\n'
        'class B(A):\n    """B."""\n\n    x: int = 2\n    z: int = 3\n\n    def g(self) -> int:\n        return 1\n\n\n'
        'MANY = 3\n\n\ndef f(a: int, *rest: str, b: str = \'x\', **more: int) -> None:\n    """F."""\n',
        encoding="utf-8",
    )
    monkeypatch.setattr(api_page, "CORE", tmp_path)
    monkeypatch.setattr(api_page, "ALSO", {})
    monkeypatch.setattr(api_page, "PACKAGES", {"fttool": ""})
    for cached in (api_page.parsed, api_page.imported):
        cached.cache_clear()
    try:
        assert list(undocumented("fttool")) == ["B.y", "B.z", "B.g", "MANY"]
        found = {one.name: one for one in api_page.definitions("fttool")}
        assert api_page.head(found["f"]) == 'f(a: int, *rest: str, b: str = "x", **more: int) -> None'
        assert api_page.head(found["B"]) == "class B(A)"
        assert {one.name: one.docstring for one in found["B"].members}["x"] == "Of A.", "the base's"
    finally:
        for cached in (api_page.parsed, api_page.imported):
            cached.cache_clear()


def test_what_is_shown_as_code_is_code() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 60
    for block in blocks:
        text = block.strip()
        kind = "" if text.startswith("class ") else "def " if re.match(r"\w+\(", text) else None
        ast.parse(text if kind is None else f"{kind}{text}: ...")
