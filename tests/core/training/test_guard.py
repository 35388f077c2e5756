"""Names of the libraries that core overrides and sets: each is looked for, and each override must be called."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
from transformers import Trainer, TrainerCallback
from trl.trainer.sft_trainer import SFTTrainer

from fttool.errors import ExitCode, LibraryError
from fttool.testing import run_recipe
from fttool.training import guard
from fttool.training.guard import Name, overridden, refuse_changed
from fttool.training.trainer import Loop, refuse_other_libraries
from fttool.training.trainer import _Watch as Watch


def named(kind: type, base: type) -> set[str]:
    """Methods of core's classes that a library's class has too, found without the guard's marks."""
    own = [one for one in kind.__mro__ if one.__module__.startswith("fttool.")]
    return {name for one in own for name in vars(one) if not name.startswith("__") and hasattr(base, name)}


def without(base: type, name: str, **more: Any) -> type:
    """A class as `base` is with everything that it inherits, without one of its names."""
    members: dict[str, Any] = {}
    for kind in reversed(base.__mro__[:-1]):
        members |= {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}
    members.pop(name, None)
    return type(base.__name__, (), {**members, **more})


def test_what_is_overridden_is_marked_and_what_is_marked_is_overridden() -> None:
    assert set(overridden(Loop)) == named(Loop, Trainer) == named(Loop, SFTTrainer)
    assert set(overridden(Watch)) == named(Watch, TrainerCallback)


def test_the_libraries_here_are_what_is_relied_on() -> None:
    for base in (Trainer, SFTTrainer):
        refuse_other_libraries(base)
    assert {one["transformers"] for one in guard.versions_passed()}


@pytest.mark.parametrize("name", sorted(named(Loop, Trainer)))
def test_a_method_that_is_renamed_is_missed(name: str) -> None:
    with pytest.raises(LibraryError, match=rf"transformers \d.* has no Trainer\.{name}, which fttool overrides"):
        refuse_changed((Loop, without(Trainer, name)))


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        (lambda self, model, norm=None: norm, "has no parameter 'grad_norm'"),
        (lambda self, model, grad_norm=None, kind=2: grad_norm, "has another parameter, 'kind'"),
        (lambda self, grad_norm=None, model=None: grad_norm, "has its parameters in another order"),
    ],
)
def test_other_parameters_are_refused(theirs: Any, said: str) -> None:
    changed = without(Trainer, "_get_grad_norm", _get_grad_norm=theirs)
    with pytest.raises(LibraryError) as caught:
        refuse_changed((Loop, changed))
    (problem,) = caught.value.problems
    assert f"Trainer._get_grad_norm {said}" in problem.message and "pip install 'transformers==" in problem.hint


def test_a_method_that_hands_on_whatever_it_is_given_is_as_good() -> None:
    refuse_changed((Loop, without(Trainer, "_get_grad_norm", _get_grad_norm=lambda self, *args, **options: 1.0)))


def test_a_name_of_ours_that_a_library_comes_to_use_is_refused() -> None:
    changed = without(Trainer, "", gather_weights=lambda self: None)
    with pytest.raises(
        LibraryError, match=r"has Trainer\.gather_weights now, a name that fttool uses for something else"
    ):
        refuse_changed((Loop, changed))


class Stores:
    """A library's class that sets two attributes and reads one of them, and asks for a third by its name."""

    def __init__(self) -> None:
        self.stored = self.read = 0

    def use(self) -> Any:
        return self.read + getattr(self, "asked", 0)


def test_an_attribute_that_is_only_stored_is_read_by_nobody() -> None:
    assert [guard._reads(Stores, name) for name in ("stored", "read", "asked", "other")] == [False, True, True, False]


@pytest.mark.parametrize("name", guard.SET, ids=lambda name: name.name)
def test_what_is_set_is_read_by_the_class_that_is_named(name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    """Independently of the bytecode: the source of the class says `.name` on the right, or "name" in quotes."""
    module, _, kind = name.owner.partition(":")
    source = inspect.getsource(getattr(importlib.import_module(module), kind))
    assert f"self.{name.name}" in source or f'"{name.name}"' in source
    monkeypatch.setattr(guard, "SET", (name._replace(name=f"{name.name}_v2"),))
    with pytest.raises(LibraryError, match=rf"does not read {kind}\.{name.name}_v2, which fttool sets"):
        refuse_changed()


@pytest.mark.parametrize("name", guard.CALLED, ids=lambda name: name.name)
def test_what_is_called_is_there(name: Name, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "CALLED", (name._replace(name=f"{name.name}_v2"),))
    with pytest.raises(LibraryError, match=rf"has no .*{name.name}_v2, which fttool uses"):
        refuse_changed()
    if name.parameters:
        monkeypatch.setattr(guard, "CALLED", (name._replace(parameters=("other",)),))
        with pytest.raises(LibraryError, match=r"takes no other in"):
            refuse_changed()


@pytest.mark.parametrize(
    ("caller", "name", "ends"),
    [
        ("_run_epoch", "_get_grad_norm", True),
        ("_run_epoch", "_get_learning_rate", True),
        ("get_batch_samples", "_get_num_items_in_batch", True),
        ("_maybe_log_save_evaluate", "_determine_best_metric", False),
        ("_maybe_log_save_evaluate", "_save_checkpoint", False),
    ],
)
def test_an_override_that_is_there_and_not_called_ends_the_run(
    tmp_path: Path,
    fttool_recipe: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caller: str,
    name: str,
    ends: bool,
) -> None:
    """transformers' own code, with the call replaced by one of a method of another name."""
    source = "class Other:\n" + inspect.getsource(getattr(Trainer, caller))
    assert source.count(f"self.{name}(") >= 1
    space = dict(vars(importlib.import_module("transformers.trainer")))
    exec(source.replace(f"self.{name}(", f"self.{name}_v2("), space)
    monkeypatch.setattr(Trainer, caller, vars(space["Other"])[caller])
    monkeypatch.setattr(Trainer, f"{name}_v2", vars(Trainer)[name], raising=False)
    fttool_recipe["run"] |= {"max_steps": 3}
    fttool_recipe["data"] |= {"eval_share": 0.2}
    run = run_recipe(fttool_recipe, tmp_path)
    assert run.exit_code == ExitCode.FAILURE and isinstance(run.error, LibraryError)
    assert f"did not call Trainer.{name}, which fttool overrides" in str(run.error)
    assert run.summary["status"] == "failed" and not (run.run_dir / "model").exists()
    assert run.summary["steps"] == (1 if ends else 3)
