"""What holds for the strategies around the model: where it comes from, what trains, at which rate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from typing_extensions import override

from fttool.contracts.layers import layers
from fttool.contracts.model import (
    FreezingContext,
    FreezingPlan,
    LayerRatesContext,
    LoadOptions,
    Source,
    SourceContext,
    TrainableUnit,
)
from fttool.errors import FttoolError
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

    @override
    def context(self) -> SourceContext:
        """The folder around the tiny model."""
        return SourceContext(folder=self.folder, trust_remote_code=False, seed=17)

    @override
    def outcome(self, built: Source) -> Any:
        """Where the model comes from, and a hash of its weights."""
        digest = hashlib.sha256()
        for p in self._model(built).parameters():
            digest.update(p.detach().numpy().tobytes())
        return dict(built.origin), digest.hexdigest()

    def _model(self, source: Source, dtype: str = "float32", **config: Any) -> PreTrainedModel:
        import torch
        from transformers import AutoModelForCausalLM

        kind = getattr(torch, dtype)
        return source.model(LoadOptions(model_class=AutoModelForCausalLM, dtype=kind, attention=None, config=config))

    def test_model_and_tokenizer_fit(self, instance: Any) -> None:
        """Every token has a row in the embedding; dtype and configuration are those that were asked for."""
        source = instance.build(self.context())
        model = self._model(source, "bfloat16", pad_token_id=3)
        embedding: Any = model.get_input_embeddings()
        assert 0 < len(source.tokenizer()) <= embedding.weight.shape[0]
        assert {str(p.dtype) for p in model.parameters()} == {"torch.bfloat16"}, "load.dtype is the weights' format"
        assert model.config.pad_token_id == 3, "load.config holds values of the model's configuration"

    def test_the_origin_is_recorded(self, instance: Any) -> None:
        """`lock.json` and the model card are told where the model came from."""
        origin = instance.build(self.context()).origin
        assert origin, "lock.json and the model card need to know"
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in origin.items())

    def test_it_says_whether_it_needs_the_network(self, instance: Any) -> None:
        """Without a yes the network stays off."""
        assert instance.needs_network(self.folder) in (True, False)


class FreezingContract(Contract):
    """Freezing: trainable units of parameters that exist, each in one unit, some of them from the first update on."""

    total_steps: ClassVar[int] = 12
    """Updates of the run, in epochs of 4."""
    model: ClassVar[Mapping[str, Any]] = {}
    """How the tiny Llama differs, where the strategy needs something that it lacks: `{"attention_bias": True}`."""

    @override
    def context(self) -> FreezingContext:
        return self._context(self.total_steps)

    def _context(self, total_steps: int, **changes: Any) -> FreezingContext:
        model = tiny_model(**self.model, **changes)
        return FreezingContext(model=model, layers=layers(model), total_steps=total_steps, steps_per_epoch=4, seed=17)

    @override
    def outcome(self, built: FreezingPlan) -> Any:
        return list(built.units)

    @pytest.mark.parametrize("tied", [False, True], ids=["separate head", "tied head"])
    def test_units_hold_parameters_once(self, instance: Any, tied: bool) -> None:
        """Names exist, in one unit each; something trains in every update; the weights that were there stay."""
        context = self._context(self.total_steps, tie_word_embeddings=tied)
        before = {name: (p, p.tolist()) for name, p in context.model.named_parameters()}
        try:
            units = instance.build(context).units
        except FttoolError as refused:
            assert tied and refused.problems[0].hint, "only a tied head may be refused, with words that help"
            return
        names = [name for unit in units for name in unit.parameters]
        now = dict(context.model.named_parameters())
        assert set(names) <= set(now), f"no such parameters: {sorted(set(names) - set(now))}"
        assert len(names) == len(set(names)), "a parameter is in two units"
        for update in range(self.total_steps):
            trained = [unit for unit in units if _trains(unit, update)]
            assert any(unit.parameters for unit in trained), f"nothing trains in update {update}"
        there = {id(p) for p in now.values()}
        lost = [name for name, (p, values) in before.items() if id(p) not in there or p.tolist() != values]
        assert lost == [], "weights were changed, or are no longer the model's; under another name they may be"

    def test_the_saved_model_is_one_that_transformers_loads(self, instance: Any, tmp_path: Path) -> None:
        """After `export` it has the weights that its class asks for, and computes what the trained one did."""
        import torch
        from transformers import AutoModelForCausalLM

        context = self.context()
        built, ids_1T = instance.build(context), torch.tensor([[4, 5, 6, 7]])
        with torch.no_grad():
            for name, p in context.model.named_parameters():
                if any(name in unit.parameters for unit in built.units):
                    p.add_(torch.linspace(-0.1, 0.1, p.numel()).view(p.shape))
            trained = context.model(input_ids=ids_1T).logits
            if built.export is not None:
                built.export(context.model, tmp_path)
            context.model.save_pretrained(tmp_path / "model")
            auto: Any = AutoModelForCausalLM
            loaded, report = auto.from_pretrained(tmp_path / "model", output_loading_info=True)
            assert not report["missing_keys"] and not report["unexpected_keys"]
            torch.testing.assert_close(loaded(input_ids=ids_1T).logits, trained, rtol=0, atol=1e-5)

    def test_extendable_means_the_same_in_a_longer_run(self, instance: Any) -> None:
        """Unless it says that it is not extendable, a longer run has the same units, and trains them when this does."""
        if instance.extendable:
            short, long = (instance.build(self._context(self.total_steps * times)).units for times in (1, 2))
            assert [unit.parameters for unit in short] == [unit.parameters for unit in long]
            updates = range(self.total_steps)
            for before, after in zip(short, long, strict=True):
                turns = [[update for update in updates if _trains(unit, update)] for unit in (before, after)]
                assert turns[0] == turns[1], f"{min(before.parameters)} …: set extendable to False"


def _trains(unit: TrainableUnit, update: int) -> bool:
    return any(update in stretch for stretch in unit.trains_in)


class LayerRatesContract(Contract):
    """Layer rates: a finite factor of at least 0 for every parameter."""

    @override
    def context(self) -> LayerRatesContext:
        model = tiny_model()
        return LayerRatesContext(model=model, layers=layers(model))

    @override
    def outcome(self, built: Callable[[str], float]) -> Any:
        return {name: built(name) for name, _ in self.context().model.named_parameters()}

    @pytest.mark.parametrize("tied", [False, True], ids=["separate head", "tied head"])
    def test_factors_are_finite(self, instance: Any, tied: bool) -> None:
        """A factor for every parameter, above 0 for some."""
        model = tiny_model(tie_word_embeddings=tied)
        rate = instance.build(LayerRatesContext(model=model, layers=layers(model)))
        factors = {name: rate(name) for name, _ in model.named_parameters()}
        assert all(math.isfinite(factor) and factor >= 0 for factor in factors.values()), factors
        assert any(factor > 0 for factor in factors.values()), "nothing would train"
