"""Options are described by the docstrings under them, as pydantic's own reading of the source has it."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from pydantic._internal._docs_extraction import extract_docstrings_from_cls

from fttool.contracts import FAMILIES
from fttool.contracts import recipe as tables
from fttool.contracts.strategy import Strategy
from fttool.described import Described, descriptions
from fttool.plugins import Plugins

BUILT_IN: list[Any] = [one for family in FAMILIES for one in Plugins.of().family(family)]
TABLES: list[Any] = [one for one in vars(tables).values() if isinstance(one, type) and issubclass(one, tables.Table)]


@pytest.mark.parametrize("kind", [*BUILT_IN, *TABLES], ids=lambda kind: kind.__name__)
def test_they_are_those_that_pydantic_reads(kind: type[BaseModel]) -> None:
    own: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, Described):
            own |= extract_docstrings_from_cls(base, use_inspect=True)
    assert descriptions(kind) == {name: text for name, text in own.items() if name in kind.model_fields}
    schema = kind.model_json_schema()["properties"]
    assert {name: option.get("description") for name, option in schema.items()} == {
        name: descriptions(kind).get(name) for name in schema
    }


class Base(Described):
    lr: float = 1.0
    """The rate."""
    decay: float = 0.0
    """In the base."""


class Derived(Base):
    decay: float = 0.1
    """In the
    derived one."""
    silent: int = 1
    said: int = Field(default=1, description="By the field.")
    """Under it."""

    class Inner(Described):
        lr: float = 2.0
        """Of the inner one."""


def test_the_last_class_that_says_something_is_heard_and_a_field_says_it_itself() -> None:
    expected = {"lr": "The rate.", "decay": "In the\nderived one.", "said": "By the field."}
    assert descriptions(Derived) == expected
    assert descriptions(Derived.Inner) == {"lr": "Of the inner one."}


def test_classes_in_functions_have_them_too() -> None:
    class Local(Derived):
        more: int = 3
        """Local."""

    assert descriptions(Local)["more"] == "Local." and descriptions(Local)["lr"] == "The rate."


def test_a_class_without_source_or_of_pydantic_s_own_reading_is_none_the_worse() -> None:
    made: dict[str, Any] = {"Strategy": Strategy, "Literal": Literal, "__name__": "typed_at_a_prompt"}
    exec('class Typed(Strategy):\n    name: Literal["typed"] = "typed"\n    """Its id."""\n', made)
    assert descriptions(made["Typed"]) == {}

    class Asks(Strategy):
        model_config = ConfigDict(use_attribute_docstrings=True)
        lr: float = 1.0
        """Read by pydantic."""

    assert descriptions(Asks) == {"lr": "Read by pydantic."}
