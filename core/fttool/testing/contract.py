"""What holds for every strategy: documented, frozen, strict about options, repeatable, with state that comes back."""

from __future__ import annotations

import functools
import inspect
import io
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, cast, get_args, get_origin

import pytest
import tomli
import tomli_w
from pydantic import ValidationError

from fttool.contracts import FAMILIES
from fttool.contracts.strategy import Strategy
from fttool.contracts.update import Regularization

HEAVY = ("torch", "transformers", "trl", "datasets")
"""Imported inside `build` only: help, validation and listing must be quick."""


class Contract:
    """The tests that all families share; subclass the contract of a family, not this one."""

    strategy: ClassVar[type[Any]]
    """The strategy class under test."""
    options: ClassVar[Sequence[Mapping[str, Any]]] = ({},)
    """The variants under test: options without `name`."""
    requires: ClassVar[Sequence[str]] = ()
    """Modules without which the strategy cannot be built; its tests are skipped where one is missing."""

    def context(self) -> Any:
        """A fresh context for `build`, the same each time; override it where the family's usual one does not fit."""
        raise NotImplementedError

    def outcome(self, built: Any) -> Any:
        """What `built` does, as plain data: two builds must give the same."""
        raise NotImplementedError

    def use(self, built: Any) -> None:
        """Use `built` as a run would, so that it has state worth saving."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One round of tests per variant."""
        if "instance" in metafunc.fixturenames:
            names = [
                ", ".join(f"{key}={value}" for key, value in options.items()) or "defaults" for options in self.options
            ]
            metafunc.parametrize("instance", self.options, indirect=True, ids=names)

    @pytest.fixture
    def instance(self, request: pytest.FixtureRequest) -> Strategy:
        """The strategy with one variant of its options."""
        for module in self.requires:
            if find_spec(module) is None:
                pytest.skip(f"{module} is not installed")
        return self.strategy(**request.param)

    def test_it_has_an_id(self) -> None:
        """`name` is a literal with itself as default: lower case, digits and `-`, after the plugin's prefix."""
        name = self.strategy.model_fields["name"]
        assert get_origin(name.annotation) is Literal, 'write name: Literal["id"] = "id"'
        assert get_args(name.annotation) == (name.default,)
        assert re.fullmatch(r"([a-z][a-z0-9_-]*\.)?[a-z0-9][a-z0-9-]*", name.default)

    def test_it_derives_from_its_family_alone(self) -> None:
        """It derives from its family's class and from nothing that is a strategy itself, and it has a `build`."""
        family = FAMILIES.get(self.strategy.family)
        assert family is not None and issubclass(self.strategy, family), "it is of another family"
        above = [base for base in self.strategy.__mro__[1:] if issubclass(base, Strategy)]
        assert not any("name" in base.model_fields for base in above), "no strategy inherits from another one"
        assert not inspect.isabstract(self.strategy), "it has no build"

    def test_everything_is_documented(self) -> None:
        """The class and each option have a docstring: they are the help and the schema."""
        schema = self.strategy.model_json_schema()
        assert self.strategy.__doc__ and schema.get("description"), "the class needs a docstring"
        bare = [name for name, option in schema["properties"].items() if not option.get("description")]
        assert [name for name in bare if name != "name"] == [], "each option needs a docstring below it"

    def test_the_schema_demands_the_name(self) -> None:
        """An editor asks for `name`, but of the family's default, and marks an unknown option, as fttool does."""
        schema, place = self.strategy.model_json_schema(), self.strategy.place
        serves = self.strategy.id() == place.default and not place.many
        assert ("name" in schema.get("required", ())) is not serves
        assert schema["additionalProperties"] is False

    def test_options_survive_toml(self, instance: Strategy) -> None:
        """What `recipe.resolved.toml` holds makes the same strategy again."""
        text = tomli_w.dumps(instance.model_dump(mode="json", exclude_none=True))
        assert type(instance).model_validate(tomli.loads(text)) == instance

    def test_it_is_frozen(self, instance: Strategy) -> None:
        """No option can be changed once it is read."""
        option = list(type(instance).model_fields)[-1]
        with pytest.raises(ValidationError, match="frozen"):
            setattr(instance, option, getattr(instance, option))

    def test_an_unknown_option_is_refused(self, instance: Strategy) -> None:
        """A misspelt option is an error, never ignored."""
        with pytest.raises(ValidationError, match="no_such_option"):
            type(instance).model_validate({**instance.model_dump(), "no_such_option": 1})

    def test_its_import_is_light(self) -> None:
        """Importing its package imports no torch, transformers, trl or datasets."""
        module = self.strategy.__module__
        assert _heavy_imports(module.rpartition(".")[0] or module) == [], "import these inside build"

    def test_two_builds_do_the_same(self, instance: Any) -> None:
        """Nothing depends on chance but by the seed in the context."""
        first, second = (self.outcome(instance.build(self.context())) for _ in range(2))
        assert first == second

    def test_its_state_comes_back(self, instance: Any) -> None:
        """What has `state_dict` is saved with each checkpoint, by `torch.save` and without pickled classes."""
        used = instance.build(self.context())
        self.use(used)
        fresh = _stateful(instance.build(self.context()))
        for name, part in _stateful(used).items():
            saved = part.state_dict()
            fresh[name].load_state_dict(through_a_file(saved))
            assert _plain(fresh[name].state_dict()) == _plain(saved), f"{name}: the state that came back is another"


@functools.cache
def _heavy_imports(module: str) -> list[str]:
    """The heavy libraries that importing `module` brings in; asked once per module, in a process of its own."""
    code = f"import sys; sys.path[:] = {sys.path!r}; import {module}; print(*set({HEAVY}) & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return answer.stdout.split()


def _stateful(built: Any) -> dict[str, Any]:
    """The parts of what was built whose state a run saves."""
    parts = {"it": built}
    if isinstance(built, Regularization):
        parts = {name: getattr(built, name) for name in built.__dataclass_fields__}
    return {name: part for name, part in parts.items() if hasattr(part, "state_dict")}


def through_a_file(state: Any) -> Any:
    """`state` as a checkpoint gives it back."""
    import torch

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _plain(value: Any) -> Any:
    """Tensors as lists, so that `==` compares them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("Iterable[Any]", value)]
    return value
