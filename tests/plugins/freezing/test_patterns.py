"""`patterns`: names decide, `freeze` wins, and a pattern that fits nothing is a mistake."""

import pytest
from pydantic import ValidationError

from fttool.api import ALWAYS, RecipeError
from fttool_plugins.freezing.patterns import Patterns

from .contexts import EMBEDDINGS, HEAD, NORM, layer, llama, units


def trained(**options: tuple[str, ...]) -> set[str]:
    [unit] = units(Patterns(**options))
    assert unit.trains_in == ALWAYS
    return set(unit.parameters)


ALL = {name for name, _ in llama().named_parameters()}


def test_all_train_unless_something_is_said() -> None:
    assert trained() == ALL


def test_patterns_are_those_of_a_shell() -> None:
    assert trained(train=("lm_head.*",)) == {HEAD}
    assert trained(train=("model.layers.[12].*",)) == layer(1) | layer(2)
    assert trained(train=("*.mlp.*",)) == {name for name in ALL if ".mlp." in name}
    assert trained(train=("model.norm.weight", "lm_hea?.weight")) == {NORM, HEAD}
    assert trained(freeze=("*norm*",)) == {name for name in ALL if "norm" not in name}


def test_freeze_wins() -> None:
    assert trained(train=("model.layers.3.*", HEAD), freeze=("*.3.*",)) == {HEAD}
    assert trained(freeze=(EMBEDDINGS,)) == ALL - {EMBEDDINGS}


def test_the_whole_name_must_fit_and_case_counts() -> None:
    for pattern in ("norm", "model.norm", "LM_HEAD.*"):
        with pytest.raises(RecipeError, match="no parameter is called"):
            trained(train=(pattern,))


def test_all_patterns_that_fit_nothing_are_named_with_near_names() -> None:
    with pytest.raises(RecipeError) as caught:
        trained(train=("lm_hed.weight", "*.mlp.*"), freeze=("*norm*", "model.layer.3.mlp.up_proj.weight", "zz*"))
    first, second, third = caught.value.problems
    assert (first.key, second.key, third.key) == (
        ("freezing", "train", 0),
        ("freezing", "freeze", 1),
        ("freezing", "freeze", 2),
    )
    assert first.message == "no parameter is called 'lm_hed.weight'" and HEAD in first.hint
    assert "model.layers.3.mlp.up_proj.weight" in second.hint
    assert third.hint.startswith("names here: ") and EMBEDDINGS in third.hint


def test_the_name_of_a_tied_head_gets_the_name_that_counts() -> None:
    with pytest.raises(RecipeError) as caught:
        units(Patterns(train=("lm_head.*",)), llama(tie_word_embeddings=True))
    assert caught.value.problems[0].hint == f"the head shares the input embeddings, which are called '{EMBEDDINGS}'"


def test_nothing_left_to_train_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"freezing\.freeze covers all that freezing\.train names"):
        trained(train=("*.mlp.*",), freeze=("model.layers.*",))


@pytest.mark.parametrize("options", [{"train": ()}, {"train": ("",)}, {"freeze": ("",)}])
def test_patterns_are_not_empty(options: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        Patterns(**options)
