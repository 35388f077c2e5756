"""Strategies judge each other by what they declare, so a third party's are judged as the built-in ones are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest

from fttool.api import Freezing, Regularizer, Sharding, hookimpl
from fttool.recipe.reading import load
from fttool.testing import plugins


class Adapter(Freezing):
    """Others than the model's own weights train."""

    name: Literal["acme.adapter"] = "acme.adapter"

    @property
    def adapts(self) -> bool:
        """It does."""
        return True

    def build(self, ctx: Any) -> Any:
        """Never asked."""
        raise AssertionError


class Biases(Freezing):
    """No matrix trains."""

    name: Literal["acme.biases"] = "acme.biases"

    @property
    def trains_matrices(self) -> bool:
        """None."""
        return False

    def build(self, ctx: Any) -> Any:
        """Never asked."""
        raise AssertionError


class Flat(Sharding):
    """An engine of flat partitions."""

    name: Literal["acme.flat"] = "acme.flat"

    @property
    def flat(self) -> bool:
        """It hands them out."""
        return True

    def build(self, ctx: Any) -> Any:
        """Never asked."""
        raise AssertionError


class Mean(Regularizer):
    """An average of the weights."""

    name: Literal["acme.mean"] = "acme.mean"

    @property
    def watches_weights(self) -> bool:
        """After each update."""
        return True

    @property
    def sets_final_weights(self) -> bool:
        """At the end."""
        return True

    def build(self, ctx: Any) -> Any:
        """Never asked."""
        raise AssertionError


MINE = [Adapter, Biases, Flat, Mean]
ACME = plugins(acme=SimpleNamespace(fttool_strategies=hookimpl(lambda: MINE, specname="fttool_strategies")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sharding=acme.flat", "optimizer=muon"), "acme.flat hands an optimizer flat pieces"),
        (("sharding=acme.flat", "optimizer=adafactor"), "acme.flat hands an optimizer flat pieces"),
        (("freezing=acme.biases", "optimizer=muon"), "freezing 'acme.biases' trains none of them"),
        (("freezing=acme.biases", "regularizers=['mixout']"), "acme.biases trains none of them"),
        (("freezing=acme.adapter", "regularizers=['mixout']"), "acme.adapter leaves the model's own as they are"),
        (("freezing=acme.adapter", "regularizers=['wise-ft']"), "acme.adapter trains others"),
        (("freezing=acme.adapter", "regularizers=[{name='ewc',strength=1.0,file='f'}]"), "acme.adapter trains others"),
        (("regularizers=['acme.mean','ema']",), "ema overwrites the final weights"),
        (
            ("regularizers=['acme.mean']", "sharding={name='zero',stage=3,processes=2}", "run.global_batch=4"),
            "acme.mean looks at the weights after each update",
        ),
    ],
)
def test_a_third_partys_strategy_is_judged_too(tmp_path: Any, words: tuple[str, ...], said: str) -> None:
    from fttool.errors import RecipeError

    (tmp_path / "rows.jsonl").touch()
    file = tmp_path / "recipe.toml"
    text = 'recipe = 1\n[run]\nmicro_batch = 2\nmax_steps = 4\n[model]\nsource = "builtin:tiny-chat"\n'
    file.write_text(text + '[[data.train]]\npath = "rows.jsonl"\n')
    with pytest.raises(RecipeError) as caught:
        load(file, words, ACME)
    assert said in str(caught.value)
