"""Plugins are found by metadata, imported only when named, and a broken one hurts nobody but those who name it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from fttool.api import Factor, Filter, FilterContext, Problem, RowFilter, Schedule, ScheduleContext, hookimpl
from fttool.contracts import FAMILIES
from fttool.errors import FttoolError, PluginError
from fttool.listing import Listed, find, listed
from fttool.plugins import Entry, Plugins
from fttool.recipe.reading import load

from .distributions import SCHEDULE, install

HOOK = "fttool_strategies"
RECIPE = """\
recipe = 1

[model]
source = "builtin:tiny-chat"

[[data.train]]
path = "rows.jsonl"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path` whose modules are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if (folder / f"{name}.py").exists():
            del sys.modules[name]


def recipe(tmp_path: Path, more: str = "", schedule: str = "cosine") -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(f'schedule = "{schedule}"\n{more}{RECIPE}', encoding="utf-8")
    return path


def refusal(path: Path) -> FttoolError:
    with pytest.raises(FttoolError) as caught:
        load(path)
    return caught.value


def row(plugin: str) -> Listed:
    (found,) = [row for row in listed(Plugins.discover()) if row.plugin == plugin]
    return found


# -- what is there -------------------------------------------------------------------------------------------------


def test_every_family_has_a_room_with_strategies() -> None:
    ours = [row for row in listed(Plugins.of()) if row.distribution == "fttool"]
    assert {row.status for row in ours} == {"installed"}, [row for row in ours if row.error]
    assert {row.plugin for row in ours if row.family is None} == {"report"}, "which only watches"
    rooms = [row for row in ours if row.family is not None]
    assert {row.family for row in rooms} == set(FAMILIES)
    assert all(row.plugin == row.family and "." not in str(row.id) for row in rooms)
    for name, family in FAMILIES.items():
        ids = {row.id for row in ours if row.family == name}
        assert family.place.default is None or family.place.default in ids


def test_an_installed_plugin_is_found_and_used(site: Path, tmp_path: Path) -> None:
    install(site, "flat-rates", {"flat": "flat_mod"}, version="2.5", flat_mod=SCHEDULE.format(id="flat.all"))
    assert row("flat") == Listed(
        "flat.all", "schedule", "flat", "flat-rates", "2.5", "installed", None, "The peak rate throughout"
    )
    loaded = load(recipe(tmp_path, schedule="flat.all"))
    assert loaded.recipe.schedule.build(ScheduleContext(total_steps=5, lr=1.0))(3) == 1.0


def test_only_what_the_recipe_names_is_imported(site: Path, tmp_path: Path) -> None:
    for name in ("named", "silent"):
        install(site, f"dist-{name}", {name: f"{name}_mod"}, **{f"{name}_mod": SCHEDULE.format(id=f"{name}.flat")})
    load(recipe(tmp_path, schedule="named.flat"))
    assert "named_mod" in sys.modules
    assert "silent_mod" not in sys.modules


def test_a_recipe_of_builtins_imports_no_plugin(site: Path, tmp_path: Path) -> None:
    install(site, "dist-silent", {"silent": "silent2_mod"}, silent2_mod=SCHEDULE.format(id="silent.flat"))
    load(recipe(tmp_path))
    assert "silent2_mod" not in sys.modules


def test_a_missing_plugin_is_named_with_its_place(tmp_path: Path) -> None:
    error = refusal(recipe(tmp_path, schedule="nowhere.flat"))
    assert error.exit_code == 6
    (problem,) = error.problems
    assert problem.message == "no installed plugin is named 'nowhere'"
    assert problem.where == f"{tmp_path / 'recipe.toml'}:1:1"
    assert "install the package whose ids start with 'nowhere.'" in problem.hint


def test_a_misspelt_plugin_gets_the_nearest(site: Path, tmp_path: Path) -> None:
    install(site, "flat-rates", {"flatrate": "flatrate_mod"}, flatrate_mod=SCHEDULE.format(id="flatrate.all"))
    (problem,) = refusal(recipe(tmp_path, schedule="flatrat.all")).problems
    assert "did you mean 'flatrate'?" in problem.hint


def test_a_misspelt_observer_gets_the_nearest_of_fttool_s_own_too(tmp_path: Path) -> None:
    error = refusal(recipe(tmp_path, more='plugins.observe = ["reports"]\n'))
    (problem,) = error.problems
    assert error.exit_code == 6 and problem.hint == "did you mean 'report'?"


# -- what is broken ------------------------------------------------------------------------------------------------

BROKEN = {
    "raises": ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    "exits": ("import sys; sys.exit('bye')", "cannot be imported: SystemExit: bye"),
    "syntax": ("def f(:", "cannot be imported: SyntaxError"),
    "misspelt": (
        "from fttool.api import hookimpl\n@hookimpl\ndef fttool_strategy():\n    return []",
        "has a hook that fttool does not know",
    ),
    "arguments": (
        "from fttool.api import hookimpl\n@hookimpl\ndef fttool_logged(step, loss):\n    pass",
        "has a hook that fttool does not know",
    ),
    "undecorated": ("def fttool_strategies():\n    return []", "a function fttool_strategies that is not a hook"),
    "no_prefix": (SCHEDULE.format(id="flat"), "the id 'flat' must be 'no_prefix.' and lower-case letters"),
    "other_prefix": (SCHEDULE.format(id="wsd.flat"), "the id 'wsd.flat' must be 'other_prefix.'"),
    "capitals": (SCHEDULE.format(id="capitals.Flat"), "the id 'capitals.Flat' must be 'capitals.'"),
    "twice": (
        SCHEDULE.format(id="twice.flat").replace("return [Flat]", "return [Flat, Flat]"),
        "two strategies of family schedule have the id 'twice.flat'",
    ),
    "no_class": (SCHEDULE.format(id="no_class.x").replace("[Flat]", "[42]"), "42 is not a Strategy class"),
    "no_list": (SCHEDULE.format(id="no_list.x").replace("[Flat]", "None"), "fttool_strategies raised TypeError"),
    "no_build": (SCHEDULE.format(id="no_build.x").replace("def build", "def built"), "Flat has no build"),
    "no_name": (SCHEDULE.format(id="no_name.x").replace("name:", "title:"), "Flat has no id"),
    "no_literal": (SCHEDULE.format(id="no_literal.x").replace('Literal["no_literal.x"]', "str"), "Flat has no id"),
    "no_family": (SCHEDULE.format(id="no_family.x").replace("Schedule", "Strategy"), "must derive from one family's"),
    "heir": (
        SCHEDULE.format(id="heir.x")
        .replace("(Schedule)", "(Base)")
        .replace(
            "class Flat", 'class Base(Schedule):\n        name: Literal["heir.y"] = "heir.y"\n\n    class Flat', 1
        ),
        "must derive from one family's",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_listed_and_stops_only_those_who_name_it(name: str, site: Path, tmp_path: Path) -> None:
    source, expected = BROKEN[name]
    install(site, f"dist-{name}", {name: f"broken_{name}"}, version="3.1", **{f"broken_{name}": source})
    found = row(name)
    assert (found.id, found.family, found.status) == (None, None, "broken")
    assert found.error is not None
    assert expected in found.error
    assert f"'{name}' of dist-{name} 3.1" in found.error

    load(recipe(tmp_path))  # does not name it
    error = refusal(recipe(tmp_path, schedule=f"{name}.flat"))
    assert error.exit_code == 6
    assert expected in str(error)
    assert f"{tmp_path / 'recipe.toml'}:1:1" in str(error)


def test_a_misspelt_hook_gets_the_nearest_one(site: Path) -> None:
    source = "def fttool_logging(step):\n    pass"
    install(site, "dist-hooks", {"hooks": "hooks_mod"}, hooks_mod=source)
    with pytest.raises(PluginError) as caught:
        Plugins.discover().module("hooks")
    assert caught.value.problems[0].hint == "did you mean 'fttool_logged'?"
    decorated = "from fttool.api import hookimpl\n@hookimpl\ndef fttool_strategy():\n    return []"
    install(site, "dist-meant", {"meant": "meant_mod"}, meant_mod=decorated)
    with pytest.raises(PluginError) as caught:
        Plugins.discover().module("meant")
    assert caught.value.problems[0].hint == "did you mean 'fttool_strategies'?"


def test_a_clash_names_both_distributions(site: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        install(site, f"dist-{name}", {"same": f"{name}_same"}, **{f"{name}_same": SCHEDULE.format(id="same.flat")})
    rows = [row for row in listed(Plugins.discover()) if row.plugin == "same"]
    assert [(row.id, row.distribution, row.status) for row in rows] == [
        (None, "dist-first", "clash"),
        (None, "dist-second", "clash"),
    ]
    assert all(row.error == "dist-first and dist-second both call a plugin 'same'; uninstall one" for row in rows)
    error = refusal(recipe(tmp_path, schedule="same.flat"))
    assert error.exit_code == 6
    assert "dist-first and dist-second" in str(error)
    assert not {"first_same", "second_same"} & set(sys.modules)


def test_a_distribution_that_is_on_the_path_twice_is_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "dist-again", {"again": "again_mod"}, again_mod=SCHEDULE.format(id="again.flat"))
    monkeypatch.syspath_prepend(str(site / ".." / "site"))
    assert row("again").status == "installed"


def test_another_major_is_listed_without_being_imported(site: Path, tmp_path: Path) -> None:
    install(site, "dist-next", {"next": "next_mod"}, group="fttool.v2", next_mod=SCHEDULE.format(id="next.flat"))
    found = row("next")
    assert (found.id, found.status) == (None, "other-major")
    assert found.error == "it is made for fttool.v2; this fttool reads fttool.v1"
    error = refusal(recipe(tmp_path, schedule="next.flat"))
    assert error.exit_code == 6
    assert "fttool.v2" in str(error)
    assert "next_mod" not in sys.modules


def test_a_plugin_for_both_majors_is_usable(site: Path) -> None:
    install(site, "dist-both", {"both": "both_mod"}, both_mod=SCHEDULE.format(id="both.flat"))
    points = site / "dist_both-1.0.dist-info" / "entry_points.txt"
    points.write_text(points.read_text(encoding="utf-8") + "[fttool.v2]\nboth = both_mod2\n", encoding="utf-8")
    rows = [row for row in listed(Plugins.discover()) if row.plugin == "both"]
    assert {(row.id, row.status) for row in rows} == {("both.flat", "installed"), (None, "other-major")}
    assert Plugins.discover().strategies_of("both")


def test_a_builtin_room_cannot_be_taken(site: Path, tmp_path: Path) -> None:
    install(site, "dist-thief", {"schedule": "thief_mod"}, thief_mod=SCHEDULE.format(id="schedule.wsd"))
    thief = [row for row in listed(Plugins.discover()) if row.distribution == "dist-thief"]
    assert [(row.id, row.plugin, row.status) for row in thief] == [(None, "schedule", "clash")]
    assert load(recipe(tmp_path, schedule="wsd")).recipe.schedule.__class__.__module__.startswith("fttool_plugins.")
    assert "thief_mod" not in sys.modules


def test_a_builtin_id_cannot_be_shadowed(site: Path) -> None:
    install(site, "dist-shadow", {"shadow": "shadow_mod"}, shadow_mod=SCHEDULE.format(id="wsd"))
    assert row("shadow").status == "broken"
    assert find(Plugins.discover(), "wsd").__module__.startswith("fttool_plugins.")


# -- switched off --------------------------------------------------------------------------------------------------


def test_a_disabled_plugin_is_not_imported(site: Path, tmp_path: Path) -> None:
    install(site, "dist-off", {"off": "off_mod"}, off_mod=SCHEDULE.format(id="off.flat"))
    table = '[plugins]\ndisable = ["off"]\n'
    error = refusal(recipe(tmp_path, table, schedule="off.flat"))
    assert error.exit_code == 6
    assert "switched off" in str(error)
    assert "off_mod" not in sys.modules
    (found,) = [row for row in listed(Plugins.discover().without(["off"])) if row.plugin == "off"]
    assert (found.id, found.status) == (None, "disabled")


def test_disabling_a_broken_plugin_lets_the_others_be_listed(site: Path) -> None:
    install(site, "dist-bad", {"bad": "bad_mod"}, bad_mod="raise RuntimeError('no')")
    statuses = {row.plugin: row.status for row in listed(Plugins.discover().without(["bad"]))}
    assert statuses["bad"] == "disabled"
    assert "bad_mod" not in sys.modules


# -- looking things up ---------------------------------------------------------------------------------------------


class Steady(Schedule):
    """The peak rate throughout."""

    name: Literal["mine.same"] = "mine.same"

    def build(self, ctx: ScheduleContext) -> Factor:
        return lambda step: 1.0


class KeepAll(Filter):
    """Every row."""

    name: Literal["mine.same"] = "mine.same"

    def build(self, ctx: FilterContext) -> RowFilter:
        return lambda examples: [None] * len(examples)


class Mine:
    """A plugin that is an object, not a module."""

    @hookimpl
    def fttool_strategies(self) -> list[Any]:
        return [Steady, KeepAll]


class Climbing(Schedule):
    """What several schedules share; it has no name, and no `build`."""

    climb: int = 3

    def check(self, recipe: Any) -> list[Problem]:
        return [Problem("it climbs too long", key=("schedule", "climb"))] if self.climb > 9 else []


class Gentle(Climbing):
    """Climb."""

    name: Literal["mine.gentle"] = "mine.gentle"

    def build(self, ctx: ScheduleContext) -> Factor:
        return lambda step: min(step / self.climb, 1.0)


class Gentler(Gentle):
    """A strategy of a strategy."""

    name: Literal["mine.gentler"] = "mine.gentler"  # type: ignore[assignment]


LockType = type(Lock())


class Locked(Schedule):
    """A schedule with an option of which pydantic can make nothing."""

    name: Literal["mine.locked"] = "mine.locked"
    lock: LockType  # not a class that pydantic knows

    def build(self, ctx: ScheduleContext) -> Factor:
        return lambda step: 1.0


def bringing(*strategies: type[Any]) -> Plugins:
    return Plugins.of(mine=SimpleNamespace(fttool_strategies=hookimpl(lambda: [*strategies], specname=HOOK)))


def test_strategies_may_share_a_class_without_a_name(tmp_path: Path) -> None:
    plugins = bringing(Gentle)
    made = load(recipe(tmp_path, schedule="mine.gentle"), ["schedule.climb=4"], plugins).recipe.schedule
    assert made.build(ScheduleContext(total_steps=9, lr=1.0))(2) == 0.5
    with pytest.raises(FttoolError, match="it climbs too long"):
        load(recipe(tmp_path, schedule="mine.gentle"), ["schedule.climb=10"], plugins)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (Climbing, "Climbing has no id"),
        (Gentler, "Gentler must derive from one family's base class"),
        (Locked, "Locked has options that pydantic cannot check: PydanticSchemaGenerationError"),
    ],
)
def test_what_is_shared_is_not_a_strategy_and_no_strategy_is_shared(wrong: type[Any], what: str) -> None:
    with pytest.raises(PluginError, match=what):
        bringing(Gentle, wrong).strategies_of("mine")


def test_an_id_in_two_families_needs_its_family() -> None:
    plugins = Plugins.of(mine=Mine())
    with pytest.raises(PluginError, match=r"'mine\.same' exists in several families") as caught:
        find(plugins, "mine.same")
    assert caught.value.problems[0].hint == "use filter.mine.same or schedule.mine.same"
    assert find(plugins, "schedule.mine.same") is Steady
    assert find(plugins, "filter.mine.same") is KeepAll


def test_an_unknown_id_gets_the_nearest() -> None:
    with pytest.raises(PluginError) as caught:
        find(Plugins.of(), "cosin")
    assert caught.value.problems[0].hint == "did you mean 'cosine'?"


def test_given_plugins_join_the_builtins_of_their_families() -> None:
    plugins = Plugins.of(mine=Mine())
    assert Steady in plugins.family("schedule", ["mine"])
    assert Steady not in plugins.family("schedule")
    assert plugins.names == ("mine",)


def test_a_plugin_is_imported_once() -> None:
    calls: list[int] = []

    def load_it() -> object:
        calls.append(1)
        return Mine()

    plugins = Plugins((Entry("mine", "dist-mine", "1", load_it),))
    assert plugins.strategies_of("mine") == plugins.strategies_of("mine") == (Steady, KeepAll)
    assert plugins.module("mine") is plugins.module("mine")
    assert calls == [1]


def test_a_plugin_may_bring_no_strategy() -> None:
    watcher = SimpleNamespace(fttool_logged=hookimpl(lambda step: None))
    (found,) = [row for row in listed(Plugins.of(watcher=watcher)) if row.plugin == "watcher"]
    assert (found.id, found.status, found.error) == (None, "installed", None)
