"""Observers watch a run; one that raises is switched off and recorded, and everything else goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fttool.api import hookimpl
from fttool.errors import PluginError
from fttool.events import Event, ObserverFailed
from fttool.plugins import Plugins
from fttool.recipe.reading import load
from fttool.watch.observers import Observers

RECIPE = """\
recipe = 1

[model]
source = "builtin:tiny-chat"

[[data.train]]
path = "rows.jsonl"

[plugins]
observe = [{names}]
"""


class Diary:
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    @hookimpl
    def fttool_recipe_loaded(self, recipe: Any) -> None:
        self.lines.append(("loaded", recipe.schedule.id()))

    @hookimpl
    def fttool_logged(self, step: int) -> None:  # takes no values
        self.lines.append(("logged", step))

    @hookimpl
    def fttool_run_finished(self, status: str, summary: Any) -> None:
        self.lines.append((status, summary))


class Raises:
    """Fails at the second line of the log."""

    def __init__(self, fault: BaseException) -> None:
        self.fault = fault
        self.calls = 0

    @hookimpl
    def fttool_logged(self, step: int, values: Any) -> None:
        self.calls += 1
        if step == 2:
            raise self.fault


class Unready:
    """Fails before there is a run directory."""

    @hookimpl
    def fttool_recipe_loaded(self) -> None:
        raise RuntimeError("not ready")


class NotWatching:
    """Brings strategies only."""

    @hookimpl
    def fttool_strategies(self) -> list[Any]:
        return []


def observers(tmp_path: Path, **plugins: object) -> tuple[Observers, list[Event]]:
    events: list[Event] = []
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(names=", ".join(f'"{name}"' for name in plugins)), encoding="utf-8")
    loaded = load(path, plugins=Plugins.of(**plugins))
    return Observers(loaded, events.append), events


def test_an_observer_gets_the_arguments_it_asks_for(tmp_path: Path) -> None:
    diary = Diary()
    watching, events = observers(tmp_path, diary=diary)
    watching.call("fttool_recipe_loaded", recipe=load(tmp_path / "recipe.toml", plugins=Plugins.of(diary=diary)).recipe)
    watching.call("fttool_logged", step=1, values={"loss": 2.0})
    watching.call("fttool_checkpoint_saved", step=1, folder=tmp_path)  # which it does not watch
    watching.call("fttool_run_finished", status="finished", summary={"steps": 1})
    assert diary.lines == [("loaded", "cosine"), ("logged", 1), ("finished", {"steps": 1})]
    assert events == []


@pytest.mark.parametrize("fault", [ValueError("broken"), SystemExit("bye")], ids=["raises", "exits"])
@pytest.mark.parametrize("first", ["bad", "good"])
def test_one_that_raises_is_switched_off_and_recorded(tmp_path: Path, fault: BaseException, first: str) -> None:
    good, bad = Diary(), Raises(fault)
    both: dict[str, object] = {"bad": bad, "good": good} if first == "bad" else {"good": good, "bad": bad}
    watching, events = observers(tmp_path, **both)
    for step in range(1, 5):
        watching.call("fttool_logged", step=step, values={})
    assert good.lines == [("logged", step) for step in range(1, 5)]
    assert bad.calls == 2
    error = f"{type(fault).__name__}: {fault}"
    text = f"plugin 'bad' is switched off: fttool_logged raised {error}"
    assert events == [ObserverFailed(text=text, plugin="bad", hook="fttool_logged", error=error)]


def test_ctrl_c_ends_the_run_even_inside_an_observer(tmp_path: Path) -> None:
    watching, _ = observers(tmp_path, bad=Raises(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        watching.call("fttool_logged", step=2, values={})


def test_a_fault_before_the_run_directory_exists_is_recorded_later(tmp_path: Path) -> None:
    watching, events = observers(tmp_path, unready=Unready())
    watching.call("fttool_recipe_loaded", recipe=None)
    assert events == []
    watching.call("fttool_run_started", recipe=None, run_dir=tmp_path, total_steps=1)
    watching.call("fttool_logged", step=1, values={})
    error = "RuntimeError: not ready"
    [failed] = events
    assert isinstance(failed, ObserverFailed)
    assert (failed.plugin, failed.hook, failed.error) == ("unready", "fttool_recipe_loaded", error)


def test_a_plugin_that_does_not_watch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="the plugin 'idle' has no observer hook") as caught:
        observers(tmp_path, idle=NotWatching())
    assert caught.value.problems[0].key == ("plugins", "observe", 0)


def test_only_observed_plugins_watch(tmp_path: Path) -> None:
    diary = Diary()
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(names=""), encoding="utf-8")
    watching = Observers(load(path, plugins=Plugins.of(diary=diary)), lambda _: None)
    watching.call("fttool_logged", step=1, values={})
    assert diary.lines == []
