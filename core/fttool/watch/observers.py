"""Plugins that watch a run. One that raises is switched off and recorded; the run goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pluggy

from fttool.errors import PluginError, Problem, gist
from fttool.events import Event, ObserverFailed
from fttool.plugins import Plugins, manager
from fttool.recipe.loaded import Loaded


class Observers:
    """The plugins that `[plugins] observe` names, called one by one so that a fault of one spares the others."""

    def __init__(self, loaded: Loaded, tell: Callable[[Event], None], *, on: bool = True) -> None:
        """Where several processes make a run, they are `on` in one of them."""
        self.tell = tell
        self.faults: list[ObserverFailed] = []
        """Not told yet."""
        self.managers: dict[str, pluggy.PluginManager] = {}
        for index, name in enumerate(loaded.recipe.plugins.observe if on else ()):
            self.managers[name] = self._manager(loaded.plugins, name, index)

    def _manager(self, plugins: Plugins, name: str, index: int) -> pluggy.PluginManager:
        registry = manager()
        module = plugins.module(name)
        registry.register(module, name)
        watched = [
            caller.name for caller in registry.get_hookcallers(module) or () if caller.name != "fttool_strategies"
        ]
        if not watched:
            message = f"the plugin '{name}' has no observer hook"
            raise PluginError(Problem(message, hint="take it out", key=("plugins", "observe", index)))
        return registry

    def call(self, hook: str, **arguments: Any) -> None:
        """Call one hook on every observer that is still on."""
        for name, registry in list(self.managers.items()):
            try:
                getattr(registry.hook, hook)(**arguments)
            except (Exception, SystemExit) as fault:  # an observer must not end a run that costs money
                del self.managers[name]
                text = f"plugin '{name}' is switched off: {hook} raised {gist(fault)}"
                self.faults.append(ObserverFailed(text=text, plugin=name, hook=hook, error=gist(fault)))
        if hook == "fttool_recipe_loaded":
            return  # there is no run directory to record anything in
        while self.faults:
            self.tell(self.faults.pop(0))
