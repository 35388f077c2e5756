"""What core takes for granted of the libraries that it stands on, by name: what it overrides, sets and calls there.

An override whose name is gone is a method that nobody calls: NaN is not looked for any more, pulls have no importance,
and the run ends well. So before rows are read, every name must be there with the parameters that are relied on; and
when an update has been made, each override must have been called in it. What is overridden is marked where it is
written, by `overrides`; the rest stands here.
"""

from __future__ import annotations

import dis
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, cast

from fttool.errors import LibraryError, Problem

Moment: TypeAlias = Literal["start", "resume", "update", "log", "evaluation", "checkpoint"]
"""By when an override has been called: before the first update, of a resumed run too; in each update; with each line
of the log; with each evaluation and checkpoint."""

VERSIONS = Path(__file__).with_name("versions.json")
"""Versions of the libraries with which the tests passed, the latest first; `.ci/prereleases` says how they do."""


class Name(NamedTuple):
    """A name of a library, in a class or module of it."""

    owner: str
    """`module:Class`, or `module:`."""
    name: str
    parameters: tuple[str, ...] = ()
    """Of a function that is called, those that are given."""


SET = (
    Name("transformers:Trainer", "_created_lr_scheduler"),
    Name("transformers:Trainer", "_globalstep_last_logged"),
    Name("transformers:Trainer", "_tr_loss"),
    Name("transformers:Trainer", "loss_is_scaled_for_ga"),
    Name("torch.optim.lr_scheduler:LRScheduler", "_last_lr"),
    Name("torch.amp.grad_scaler:GradScaler", "_step_supports_amp_scaling"),
)
"""Attributes that core sets, and the class whose methods read them."""

CALLED = (
    Name("torch.amp.grad_scaler:GradScaler", "_lazy_init_scale_growth_tracker", ("dev",)),
    Name("torch.cpu:", "_is_avx512_bf16_supported"),
    Name("accelerate:Accelerator", "optimizer_step_was_skipped"),
)
"""What core reads or calls that is not a library's public interface, or that a check depends on."""

F = TypeVar("F", bound=Callable[..., Any])


def overrides(when: Moment) -> Callable[[F], F]:
    """Mark a method as one that takes the place of a library's, and that the library has called by then."""

    def mark(method: F) -> F:
        @wraps(method)
        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            self.__dict__.setdefault("overrides_called", set()).add(method.__name__)
            return method(self, *args, **kwargs)

        cast("Any", noted).overrides_when = when
        return cast("F", noted)

    return mark


def overridden(ours: type) -> dict[str, Moment]:
    """The methods of a class of ours, its bases among them, that take the place of a library's."""
    return {
        name: member.overrides_when
        for kind in reversed(_own(ours))
        for name, member in vars(kind).items()
        if hasattr(member, "overrides_when")
    }


def refuse_changed(*pairs: tuple[type, type]) -> None:
    """Raise `LibraryError` where an attribute that core sets is read by nobody, a name that it calls is missing, or a
    library lacks a method that a class of ours overrides, takes other parameters there, or uses a name of ours.

    `pairs`: our class, which may be mixed into the other one or derived from it, and the library's.
    """
    problems = [problem for ours, base in pairs for problem in _differences(ours, base)]
    problems += [_problem(name, "does not read", "sets") for name in SET if not _reads(_owner(name), name.name)]
    for name in CALLED:
        present = getattr(_owner(name), name.name, None)
        if present is None:
            problems.append(_problem(name, "has no", "uses"))
        elif name.parameters and not set(name.parameters) <= set(inspect.signature(present).parameters):
            problems.append(_problem(name, f"takes no {' and '.join(name.parameters)} in", "uses"))
    if problems:
        raise LibraryError(problems)


def refuse_uncalled(things: Iterable[tuple[Any, type]], moments: Sequence[Moment], but: Sequence[str] = ()) -> None:
    """Raise `LibraryError` where a method was not called on one of these objects that must have been by now.

    `things`: an object of our class, and the library's class whose methods it overrides; `but`: names that are not
    called in this run.
    """
    problems = [
        Problem(
            f"{_library(base)} did not call {_qualified(base, name)}, which fttool overrides: "
            "what is done there would have been left out in silence",
            hint=_known(base),
        )
        for thing, base in things
        for name, when in overridden(type(thing)).items()
        if when in moments and name not in but and name not in thing.__dict__.get("overrides_called", ())
    ]
    if problems:
        raise LibraryError(problems)


def versions_passed() -> list[Mapping[str, str]]:
    """Library → version, of each set of versions with which the tests passed; the latest first."""
    return json.loads(VERSIONS.read_text(encoding="utf-8"))


def _differences(ours: type, base: type) -> Iterable[Problem]:
    """What `base` lacks or has otherwise of what `ours` overrides in it."""
    marked = overridden(ours)
    for name in marked:
        theirs, own = getattr(base, name, None), inspect.unwrap(getattr(ours, name))
        if not callable(theirs):
            lost = "what is done there would be left out in silence"
            message = f"{_library(base)} has no {_qualified(base, name)}, which fttool overrides: {lost}"
            yield Problem(message, hint=_known(base))
        else:
            change = _other_parameters(own, theirs)
            if change:
                message = f"{_library(base)}: {_qualified(base, name)} {change}, and fttool overrides it"
                yield Problem(message, hint=_known(base))
    members = {name for kind in _own(ours) for name in vars(kind) if not name.startswith("__")}
    for name in sorted(members - marked.keys()):
        if hasattr(base, name):
            message = f"{_library(base)} has {_qualified(base, name)} now, a name that fttool uses for something else"
            yield Problem(message, hint=_known(base))


def _other_parameters(own: Callable[..., Any], theirs: Callable[..., Any]) -> str:
    """How `theirs` takes other parameters than `own` does; empty where each can stand for the other."""
    mine, other = (inspect.signature(function).parameters for function in (own, theirs))
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [
        [name for name, parameter in parameters.items() if parameter.kind not in open_ended]
        for parameters in (mine, other)
    ]
    if any(parameter.kind in open_ended for parameter in other.values()):  # it hands on whatever it is given
        return ""
    missing = [name for name in named[0] if name not in other]
    if missing:
        return f"has no parameter '{missing[0]}'"
    new = [name for name in named[1] if name not in mine]
    if new and not any(parameter.kind in open_ended for parameter in mine.values()):
        return f"has another parameter, '{new[0]}'"
    shared = [name for name in named[1] if name in mine]
    return "" if shared == named[0] else "has its parameters in another order"


def _reads(owner: Any, name: str) -> bool:
    """True where a method of the class loads the attribute, or names it to `getattr`."""
    functions = [inspect.unwrap(function) for function in vars(owner).values() if isinstance(function, FunctionType)]
    codes = [
        function.__code__
        for function in functions
        if name in (*function.__code__.co_names, *function.__code__.co_consts)
    ]
    return any(name in _loaded(code) for code in codes)


@cache
def _loaded(code: CodeType) -> frozenset[str]:
    """The names and texts that a function's code loads."""
    steps = dis.get_instructions(code)
    return frozenset(step.argval for step in steps if step.opname.startswith("LOAD") and isinstance(step.argval, str))


def _own(ours: type) -> list[type]:
    """The classes of core among a class and its bases, the most derived first."""
    return [kind for kind in ours.__mro__ if kind.__module__.partition(".")[0] == "fttool"]


def _owner(name: Name) -> Any:
    module, _, kind = name.owner.partition(":")
    return getattr(import_module(module), kind) if kind else import_module(module)


def _problem(name: Name, what: str, how: str) -> Problem:
    library, (_, _, kind) = name.owner.partition(".")[0].partition(":")[0], name.owner.partition(":")
    place = f"{kind}.{name.name}" if kind else name.name
    return Problem(f"{library} {version(library)} {what} {place}, which fttool {how}", hint=_known_of(library))


def _qualified(base: type, name: str) -> str:
    """`Class.name`, of the class that has it."""
    home = next((kind for kind in base.__mro__ if name in vars(kind)), base)
    return f"{home.__name__}.{name}"


def _package(base: type) -> str:
    return base.__module__.partition(".")[0]


def _library(base: type) -> str:
    return f"{_package(base)} {version(_package(base))}"


def _known(base: type) -> str:
    return _known_of(_package(base))


def _known_of(library: str) -> str:
    known = list(dict.fromkeys(versions[library] for versions in versions_passed() if library in versions))
    return f"known to work: {library} {', '.join(known)}; pip install '{library}=={known[0]}'" if known else ""
