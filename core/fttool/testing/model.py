"""What holds for the strategies around the model: where it comes from, what trains, at which rate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from fttool.errors import FttoolError
from fttool.families import FreezingContext, LayerRatesContext, LoadOptions, Source, SourceContext, Thawing
from fttool.layers import layers
from fttool.testing.contract import Contract
from fttool.testing.tiny import tiny_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class ModelSourceContract(Contract):
    """A model source: a tokenizer and a causal model that fit each other, the same each time.

    Paths start in a folder that holds `tiny-llama`, a saved model: `options = ({"path": "tiny-llama"},)`.
    """

    folder: Path

    @pytest.fixture(autouse=True)
    def _folder(self, fttool_tiny_model: Path) -> None:
        self.folder = fttool_tiny_model.parent

    def context(self) -> SourceContext:
        """The folder around the tiny model."""
        return SourceContext(folder=self.folder, trust_remote_code=False, seed=17)

    def outcome(self, built: Source) -> Any:
        """Where the model comes from, and a hash of its weights."""
        digest = hashlib.sha256()
        for p in self._model(built).parameters():
            digest.update(p.detach().numpy().tobytes())
        return dict(built.origin), digest.hexdigest()

    def _model(self, source: Source) -> PreTrainedModel:
        import torch
        from transformers import AutoModelForCausalLM

        return source.model(LoadOptions(model_class=AutoModelForCausalLM, dtype=torch.float32, attention=None))

    def test_model_and_tokenizer_fit(self, made: Any) -> None:
        """Every token has a row in the embedding."""
        source = made.build(self.context())
        embedding: Any = self._model(source).get_input_embeddings()
        assert 0 < len(source.tokenizer()) <= embedding.weight.shape[0]

    def test_the_origin_is_recorded(self, made: Any) -> None:
        """`lock.json` and the model card are told where the model came from."""
        origin = made.build(self.context()).origin
        assert origin, "lock.json and the model card need to know"
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in origin.items())

    def test_it_says_whether_it_needs_the_network(self, made: Any) -> None:
        """Without a yes the network stays off."""
        assert made.needs_network(self.folder) in (True, False)


class FreezingContract(Contract):
    """Freezing: thaw units of parameters that exist, each in one unit, some of them from the first update on."""

    total_steps: ClassVar[int] = 12
    """Updates of the run, in epochs of 4."""

    def context(self) -> FreezingContext:
        """The tiny model."""
        return self._context(tiny_model())

    def _context(self, model: PreTrainedModel) -> FreezingContext:
        return FreezingContext(
            model=model, layers=layers(model), total_steps=self.total_steps, steps_per_epoch=4, seed=17
        )

    def outcome(self, built: Thawing) -> Any:
        """The units."""
        return list(built.units)

    @pytest.mark.parametrize("tied", [False, True], ids=["separate head", "tied head"])
    def test_units_hold_parameters_once(self, made: Any, tied: bool) -> None:
        """Names exist, in one unit each; something trains in every update; the weights that were there stay."""
        context = self._context(tiny_model(tie_word_embeddings=tied))
        before = {name: p.tolist() for name, p in context.model.named_parameters()}
        try:
            units = made.build(context).units
        except FttoolError as refused:
            assert tied and refused.problems[0].hint, "only a tied head may be refused, with words that help"
            return
        names = [name for unit in units for name in unit.parameters]
        now = {name: p.tolist() for name, p in context.model.named_parameters()}
        assert set(names) <= set(now), f"no such parameters: {sorted(set(names) - set(now))}"
        assert len(names) == len(set(names)), "a parameter is in two units"
        for update in range(self.total_steps):
            trained = [unit for unit in units if any(update in stretch for stretch in unit.trains_in)]
            assert any(unit.parameters for unit in trained), f"nothing trains in update {update}"
        assert {name: now.get(name) for name in before} == before, "weights were changed"


class LayerRatesContract(Contract):
    """Layer rates: a finite factor of at least 0 for every parameter."""

    def context(self) -> LayerRatesContext:
        """The tiny model."""
        model = tiny_model()
        return LayerRatesContext(model=model, layers=layers(model))

    def outcome(self, built: Callable[[str], float]) -> Any:
        """The factor of every parameter."""
        return {name: built(name) for name, _ in self.context().model.named_parameters()}

    @pytest.mark.parametrize("tied", [False, True], ids=["separate head", "tied head"])
    def test_factors_are_finite(self, made: Any, tied: bool) -> None:
        """A factor for every parameter, above 0 for some."""
        model = tiny_model(tie_word_embeddings=tied)
        rate = made.build(LayerRatesContext(model=model, layers=layers(model)))
        factors = {name: rate(name) for name, _ in model.named_parameters()}
        assert all(math.isfinite(factor) and factor >= 0 for factor in factors.values()), factors
        assert any(factor > 0 for factor in factors.values()), "nothing would train"
