"""Whatever a plugin does in a run, the answer names its strategy, its distribution and its place in the recipe.

Exit code 6, or the code of what really happened: memory that ran out, a run that diverged, a signal.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fttool.rundir.record import Record

from .conftest import Shell, Site

HEAD = """\
import os, signal, sys, threading
from typing import Literal
import torch
from fttool.api import *

"""

TAIL = """

@hookimpl
def fttool_strategies():
    return [One]
"""


def plugin(body: str) -> str:
    """The source of a plugin with the strategy `One`."""
    return HEAD + body + TAIL


def regularizer(build: str) -> str:
    """A plugin whose regularizer `acme.one` is built by these lines."""
    lines = "".join(f"        {line}\n" for line in build.splitlines())
    return plugin(
        f'class One(Regularizer):\n    """One."""\n    name: Literal["acme.one"] = "acme.one"\n\n'
        f"    def build(self, ctx):\n{lines}"
    )


def stateful(state_dict: str, after: str = "pass", load: str = "pass") -> str:
    """A plugin whose regularizer has state: these are its `state_dict`, what it does after an update, and its load."""
    counter = (
        "class Counter:\n    seen = None\n"
        f"    def __call__(self, model, step): {after}\n"
        f"    def state_dict(self): {state_dict}\n"
        f"    def load_state_dict(self, state): {load}\n\nclass One"
    )
    return regularizer("return Regularization(after_update=Counter())").replace("class One", counter)


NAMED = "strategy 'acme.one', of the plugin 'acme' of dist-acme 1.0, raised "


@pytest.fixture
def recipe(recipe: dict[str, Any]) -> dict[str, Any]:
    recipe["regularizers"] = ["acme.one"]
    recipe["checkpoints"] = {"every": 1}
    return recipe


def summary(shell: Shell) -> dict[str, Any]:
    return json.loads((shell.runs / "recipe" / "summary.json").read_text())


def events(shell: Shell) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shell.runs / "recipe" / "events.jsonl").read_text().splitlines()]


def failed(shell: Shell, code: int, *said: str, words: tuple[str, ...] = ()) -> str:
    """Run the recipe that is written; a run that began and ended with this code; returns what stderr said."""
    answer = shell.call("run", *words)
    assert answer.code == code, answer.err
    assert len(answer.err.splitlines()) <= 24 and "Traceback" not in answer.err
    assert [text for text in said if text not in answer.err] == [], answer.err
    assert not list((shell.runs / "recipe").rglob("*.partial"))
    return answer.err


STATE = "the state of regularizers.0.after_update cannot be saved: "

# -- before the first update ---------------------------------------------------------------------------------------

BEFORE = {
    "import error": (
        "import no_such_module",
        "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "exit at import": ("import sys; sys.exit(0)", "cannot be imported: SystemExit: 0"),
    "raises in build": (regularizer("raise KeyError('nothing')"), NAMED + "KeyError: 'nothing'"),
    "exits in build": (regularizer("sys.exit(0)"), NAMED + "SystemExit: 0"),
    "raises in check": (
        regularizer("pass").replace(
            "    def build", "    def check(self, recipe):\n        return 1 / 0\n\n    def build"
        ),
        NAMED + "ZeroDivisionError: division by zero",
    ),
    "exits in check": (
        regularizer("pass").replace(
            "    def build", "    def check(self, recipe):\n        sys.exit(3)\n\n    def build"
        ),
        NAMED + "SystemExit: 3",
    ),
    "raises in a validator": (
        plugin(
            "from pydantic import field_validator\n"
            'class One(Regularizer):\n    """One."""\n    name: Literal["acme.one"] = "acme.one"\n\n'
            '    @field_validator("name")\n    @classmethod\n    def check_name(cls, value): raise KeyError(value)\n\n'
            "    def build(self, ctx): ...\n"
        ),
        "a validator of the plugin 'acme' of dist-acme 1.0 raised KeyError: 'acme.one'",
    ),
    "raises deep in a library": (regularizer("return torch.zeros(3) @ torch.zeros(4)"), NAMED + "RuntimeError: "),
    "raises many lines": (regularizer("raise ValueError('first\\n' + 'next\\n' * 500)"), NAMED + "ValueError: first"),
    "raises a novel": (regularizer("raise ValueError('x' * 100_000)"), NAMED + "ValueError: xxx"),
    "raises in modify": (regularizer("return Regularization(modify=lambda model: model.nothing)"), NAMED),
    "state that raises": (stateful("raise OSError('full')"), STATE + "OSError: full"),
    "state that cannot be pickled": (stateful("return {'lock': threading.Lock()}"), STATE + "TypeError: cannot pickle"),
    "state that cannot be read back": (stateful("return {'me': self}"), STATE + "UnpicklingError"),
}


@pytest.mark.parametrize("kind", BEFORE)
def test_a_fault_before_the_first_update_names_the_plugin_and_writes_nothing(
    shell: Shell, site: Site, recipe: dict[str, Any], kind: str
) -> None:
    source, said = BEFORE[kind]
    site.install(source)
    answer = shell.run(recipe)
    answer.refuses(6, said, where=shell.place('"acme.one"'))
    assert "dist-acme 1.0" in answer.err or "state of" in answer.err


FAMILIES = {
    "format": ("Format", "raise KeyError(row['nope'])", "return lambda row, origin: broken(row)"),
    "format build": ("Format", "", "return 1 / 0"),
    "filter": ("Filter", "raise OSError('no word list')", "return lambda examples: broken(examples)"),
    "filter of few answers": ("Filter", "", "return lambda examples: [None]"),
    "masking": ("Masking", "raise IndexError('token')", "return lambda example: broken(example)"),
    "masking shifted": ("Masking", "", "return lambda example: Encoded([1, 2, 3], [2, 3, -100])"),
    "masking short": ("Masking", "", "return lambda example: Encoded([1, 2, 3], [-100, 2])"),
    "mixing": ("Mixing", "raise RuntimeError('epoch')", "return lambda epoch: broken(epoch)"),
    "schedule": ("Schedule", "raise OverflowError('rate')", "return lambda step: broken(step)"),
    "freezing": ("Freezing", "raise AttributeError('layer')", "return broken(ctx)"),
    "layer_rates": ("LayerRates", "raise LookupError('name')", "return lambda name: broken(name)"),
    "precision": ("Precision", "raise NotImplementedError('tpu')", "return broken(ctx)"),
    "sharding": ("Sharding", "raise ConnectionError('peer')", "return broken(ctx)"),
    "task": ("Task", "raise ImportError('trainer')", "return broken(ctx)"),
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_fault_in_any_family_names_the_strategy(shell: Shell, site: Site, recipe: dict[str, Any], kind: str) -> None:
    base, inside, build = FAMILIES[kind]
    site.install(
        plugin(
            f"def broken(value):\n    {inside or 'pass'}\n\n"
            f'class One({base}):\n    """One."""\n    name: Literal["acme.one"] = "acme.one"\n\n'
            f"    def build(self, ctx):\n        {build}\n"
        )
    )
    del recipe["regularizers"]
    family = kind.partition(" ")[0]
    if family == "format":
        recipe["data"]["train"][0]["format"] = "acme.one"
    else:
        recipe["filters" if family == "filter" else family] = ["acme.one"] if family == "filter" else "acme.one"
    answer = shell.run(recipe)
    said = {
        "filter of few answers": "filter 'acme.one' gave 1 answers for 8 rows",
        "masking shifted": "masking 'acme.one' gave labels that are not the tokens' own",
        "masking short": "masking 'acme.one' gave labels that are not the tokens' own",
    }.get(kind, NAMED)
    key = {"format": "format", "filter": '"acme.one"'}.get(family, family)
    answer.refuses(6, said, where=shell.place(key))


def test_a_masking_that_asks_for_more_than_a_turn_names_the_rows(
    shell: Shell, site: Site, recipe: dict[str, Any]
) -> None:
    """It refuses the plainest conversation too, but as plain text just as well: the chat template is not at fault."""
    site.install(
        plugin(
            'class One(Masking):\n    """One."""\n    name: Literal["acme.one"] = "acme.one"\n\n'
            "    def build(self, ctx):\n"
            "        def encode(example):\n            raise ValueError('the row has no final answer')\n"
            "        return encode\n"
        )
    )
    del recipe["regularizers"]
    recipe["masking"] = "acme.one"
    answer = shell.run(recipe)
    answer.refuses(4, "rows.jsonl:1: the row has no final answer")
    assert "chat template" not in answer.err


def test_debug_shows_the_traceback(shell: Shell, site: Site, recipe: dict[str, Any]) -> None:
    site.install(regularizer("raise KeyError('nothing')"))
    shell.write(recipe)
    with pytest.raises(Exception, match="'nothing'") as caught:
        shell.call("run", "--debug")
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_message_that_a_plugin_raises_is_shown_as_it_is(shell: Shell, site: Site, recipe: dict[str, Any]) -> None:
    """A strategy of any origin may raise fttool's own errors; the place is added."""
    site.install(regularizer("raise RecipeError('strength must be even', hint='strength = 2')"))
    answer = shell.run(recipe)
    answer.refuses(3, "strength must be even", "    strength = 2", where=shell.place('"acme.one"'))


def test_a_missing_plugin_is_named_by_every_verb(shell: Shell, recipe: dict[str, Any]) -> None:
    shell.write(recipe)
    for verb in ("run", "validate", "preview"):
        shell.call(verb).refuses(6, "no installed plugin is named 'acme'", where=shell.place('"acme.one"'))


# -- in mid-run ----------------------------------------------------------------------------------------------------

MIDRUN = {
    "loss raises": ("return Regularization(loss=lambda model, *_: model.nothing)", "AttributeError: ", 0),
    "loss exits": ("return Regularization(loss=lambda *_: sys.exit(0))", "SystemExit: 0", 0),
    "after_update raises": (
        "def after(model, step):\n    if step == 2: raise KeyError(step)\nreturn Regularization(after_update=after)",
        "KeyError: 2",
        2,
    ),
    "final_weights raises": ("return Regularization(final_weights=lambda weights: 1 / 0)", "ZeroDivisionError", 2),
}


@pytest.mark.parametrize("kind", MIDRUN)
def test_a_fault_in_mid_run_keeps_what_there_is(shell: Shell, site: Site, recipe: dict[str, Any], kind: str) -> None:
    build, said, steps = MIDRUN[kind]
    site.install(regularizer(build))
    shell.write(recipe)
    err = failed(shell, 6, NAMED + said, "--debug shows the traceback")
    assert shell.place('"acme.one"') in err
    assert summary(shell)["status"] == "failed" and summary(shell)["steps"] == steps
    assert events(shell)[-1]["event"] == "ended"
    assert not (shell.runs / "recipe" / "model").exists()


def test_a_run_that_a_plugin_broke_can_go_on(shell: Shell, site: Site, recipe: dict[str, Any]) -> None:
    after = (
        "def after(model, step):\n    if step == 2{}: raise KeyError(step)\nreturn Regularization(after_update=after)"
    )
    site.install(regularizer(after.format("")))
    shell.write(recipe)
    failed(shell, 6, "KeyError: 2")
    site.install(regularizer(after.format(" and not step")))
    assert shell.call("run", "--resume").code == 0
    assert next(event for event in events(shell) if event["event"] == "resumed")["step"] == 1
    assert summary(shell)["status"] == "finished" and summary(shell)["steps"] == 2


def test_state_that_stops_to_be_savable_writes_no_half_checkpoint(
    shell: Shell, site: Site, recipe: dict[str, Any]
) -> None:
    site.install(stateful("return {'seen': self.seen}", after="self.seen = lambda: step"))
    shell.write(recipe)
    failed(shell, 6, STATE, "tensors, numbers, text")
    assert not list((shell.runs / "recipe" / "checkpoints").iterdir())


def test_a_loader_processs_fault_names_the_strategy_and_hides_its_traceback(
    shell: Shell, site: Site, recipe: dict[str, Any]
) -> None:
    site.install(
        plugin(
            'class One(Batching):\n    """One."""\n    name: Literal["acme.one"] = "acme.one"\n\n'
            "    def build(self, ctx):\n        return Made(ctx)\n\n"
            "class Made:\n    def __init__(self, ctx):\n        self.rows = len(ctx.lengths)\n"
            "    def plan(self, order, epoch):\n        return [[(row,)] for row in order]\n"
            "    def collate(self, sequences):\n        raise LookupError('no such row')\n"
        )
    )
    del recipe["regularizers"]
    recipe["batching"] = "acme.one"
    recipe["run"] |= {"workers": 1, "micro_batch": 1}
    shell.write(recipe)
    err = failed(shell, 6, NAMED, "LookupError: no such row")
    assert shell.place("batching") in err


# -- what is no fault of the plugin --------------------------------------------------------------------------------

MEMORY = {
    "torch": "torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')",
    "python": "MemoryError()",
    "allocator": "RuntimeError('[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can\\'t allocate memory')",
}


@pytest.mark.parametrize("kind", MEMORY)
def test_memory_that_runs_out_in_an_update_gets_advice(
    shell: Shell, site: Site, recipe: dict[str, Any], kind: str
) -> None:
    site.install(regularizer(f"def loss(*_): raise {MEMORY[kind]}\nreturn Regularization(loss=loss)"))
    recipe["run"]["global_batch"] = 8
    shell.write(recipe)
    said = ("out of memory: ", "run.micro_batch = 1 with run.global_batch = 8 (the same updates)")
    failed(shell, 7, *said, "model.gradient_checkpointing = true", "batching.max_length below 512")
    assert summary(shell)["status"] == "failed"


def test_memory_that_runs_out_while_the_model_loads_is_no_fault_of_the_model(
    shell: Shell, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    def no_memory(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(LlamaForCausalLM, "__init__", no_memory)
    del recipe["regularizers"]
    answer = shell.run(recipe)
    answer.refuses(7, "out of memory", "run.micro_batch = 1")


def test_memory_that_runs_out_in_build_is_no_fault_of_the_plugin(
    shell: Shell, site: Site, recipe: dict[str, Any]
) -> None:
    site.install(regularizer("raise MemoryError"))
    shell.run(recipe).refuses(7, "out of memory", "run.micro_batch = 1")


def test_a_word_about_memory_in_a_row_is_no_lack_of_it(shell: Shell, recipe: dict[str, Any], rows: Path) -> None:
    del recipe["regularizers"]
    rows.write_text(json.dumps({"messages": [{"role": "out of memory", "content": "a"}]}) + "\n")
    shell.run(recipe).refuses(4, "has the role 'out of memory'", where=f"{rows}:1")


def test_a_run_that_diverges_names_its_rows(shell: Shell, site: Site, recipe: dict[str, Any], rows: Path) -> None:
    nan = "lambda model, *_: next(model.parameters()).sum() * float('nan')"
    site.install(regularizer(f"return Regularization(loss={nan})"))
    shell.write(recipe)
    failed(shell, 8, "the gradient of update 1 is not finite; its rows: ", f"{rows}:", "lower optimizer.lr")
    assert summary(shell)["status"] == "diverged" and len(events(shell)[-2]["rows"]) == 2


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_saves_and_says_how_to_go_on(
    shell: Shell, site: Site, recipe: dict[str, Any], number: str, code: int
) -> None:
    kill = f"def after(model, step):\n    if step == 1: os.kill(os.getpid(), signal.{number})\n"
    site.install(regularizer(kill + "return Regularization(after_update=after)"))
    answer = shell.run(recipe)
    assert answer.code == code and "Traceback" not in answer.err
    assert "stopping after this update, with a checkpoint" in answer.err and "--resume" in answer.out
    assert summary(shell)["status"] == "interrupted"
    assert [path.name for path in (shell.runs / "recipe" / "checkpoints").iterdir()] == ["checkpoint-1"]
    assert shell.call("run", "--resume").code == 0


def test_a_second_ctrl_c_stops_at_once(shell: Shell, site: Site, recipe: dict[str, Any]) -> None:
    site.install(
        regularizer(
            "def loss(*_):\n    for _ in range(2): os.kill(os.getpid(), signal.SIGINT)\n    return 0.0\n"
            "return Regularization(loss=loss)"
        )
    )
    shell.write(recipe)
    failed(shell, 130, "interrupted")
    assert summary(shell)["status"] == "interrupted"


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_while_all_is_loaded_gets_a_word_and_its_code(
    shell: Shell, site: Site, recipe: dict[str, Any], number: str, code: int
) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    site.install(regularizer(f"os.kill(os.getpid(), signal.{number})\nreturn Regularization()"))
    shell.write(recipe)
    failed(shell, code, f"stopped by {number}")
    assert not shell.runs.exists() or not list(shell.runs.iterdir())
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


def test_a_signal_between_the_run_directory_and_the_loop_leaves_a_summary(
    shell: Shell, site: Site, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    event = Record.event

    def stop(self: Record, happened: Any, **options: Any) -> None:
        event(self, happened, **options)
        if happened.kind() == "started":
            os.kill(os.getpid(), signal.SIGTERM)

    site.install(regularizer("return Regularization()"))
    monkeypatch.setattr(Record, "event", stop)
    shell.write(recipe)
    failed(shell, 143, "stopped by SIGTERM")
    assert (summary(shell)["status"], events(shell)[-1]["event"]) == ("interrupted", "ended")
    monkeypatch.setattr(Record, "event", event)
    assert shell.call("run", "--resume").code == 0


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_while_the_model_is_saved_leaves_a_summary_and_a_run_to_resume(
    shell: Shell, site: Site, recipe: dict[str, Any], number: str, code: int
) -> None:
    mark = shell.folder / "killed"
    site.install(
        regularizer(
            f"def final(weights):\n    import pathlib\n    mark = pathlib.Path({str(mark)!r})\n"
            f"    if not mark.exists(): mark.touch(); os.kill(os.getpid(), signal.{number})\n"
            "return Regularization(final_weights=final)"
        )
    )
    shell.write(recipe)
    failed(shell, code, f"stopped by {number}")
    assert summary(shell)["status"] == "interrupted"
    assert events(shell)[-1]["event"] == "ended"
    assert shell.call("run", "--resume").code == 0
    assert summary(shell)["status"] == "finished"


def test_a_run_under_nohup_does_not_hear_the_terminal_close(shell: Shell, site: Site, recipe: dict[str, Any]) -> None:
    site.install(regularizer("os.kill(os.getpid(), signal.SIGHUP)\nreturn Regularization()"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert shell.run(recipe).code == 0
    finally:
        signal.signal(signal.SIGHUP, before)


# -- resuming ------------------------------------------------------------------------------------------------------

STOPS = (
    "def after(model, step):\n    if step == 1: os.kill(os.getpid(), signal.SIGTERM)\n"
    "return Regularization(after_update=after)"
)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_version_of_a_plugin_is_refused_at_resume(shell: Shell, site: Site, recipe: dict[str, Any]) -> None:
    site.install(regularizer(STOPS))
    assert shell.run(recipe).code == 143
    before = content(shell.runs)
    site.install(regularizer(STOPS), version="1.1")
    answer = shell.call("run", "--resume")
    assert answer.code == 6 and len(answer.err.splitlines()) <= 24
    place = shell.place('"acme.one"')
    assert f"{place}: this run was begun with dist-acme 1.0, and dist-acme 1.1 is installed" in answer.err
    assert "pip install dist-acme==1.0" in answer.err and "run.name" in answer.err
    assert content(shell.runs) == before
    site.install(regularizer(STOPS.replace("SIGTERM", "SIGCONT")))
    assert shell.call("run", "--resume").code == 0


def test_a_plugin_that_is_missing_is_refused_at_resume(shell: Shell, site: Site, recipe: dict[str, Any]) -> None:
    site.install(regularizer(STOPS))
    assert shell.run(recipe).code == 143
    before = content(shell.runs)
    site.uninstall()
    answer = shell.call("run", "--resume")
    assert answer.code == 6 and "no installed plugin is named 'acme'" in answer.err
    assert content(shell.runs) == before


def test_state_that_cannot_be_restored_names_the_plugin(shell: Shell, site: Site, recipe: dict[str, Any]) -> None:
    stop = "os.kill(os.getpid(), signal.SIGTERM) if step == 1 else None"
    site.install(stateful("return {'count': 1}", after=stop, load="self.count = state['total']"))
    assert shell.run(recipe).code == 143
    before = content(shell.runs)
    answer = shell.call("run", "--resume")
    assert answer.code == 6 and NAMED + "KeyError: 'total'" in answer.err
    assert content(shell.runs) == before


# -- who only watches ----------------------------------------------------------------------------------------------

WATCHER = """\
import sys
from fttool.api import hookimpl

@hookimpl
def {hook}({arguments}):
    {body}
"""


@pytest.mark.parametrize(
    "hook", ["fttool_recipe_loaded", "fttool_logged", "fttool_checkpoint_saved", "fttool_run_finished"]
)
@pytest.mark.parametrize(
    ("body", "said"), [("1 / 0", "ZeroDivisionError: division by zero"), ("sys.exit(0)", "SystemExit: 0")]
)
def test_a_hook_that_raises_in_mid_run_is_switched_off_and_said(
    shell: Shell, site: Site, recipe: dict[str, Any], hook: str, body: str, said: str
) -> None:
    site.install(WATCHER.format(hook=hook, arguments="", body=body))
    del recipe["regularizers"]
    recipe["plugins"] = {"observe": ["acme"]}
    answer = shell.run(recipe)
    assert answer.code == 0 and summary(shell)["status"] == "finished"
    assert f"plugin 'acme' is switched off: {hook} raised {said}" in answer.err and "Traceback" not in answer.err
    failures = [event for event in events(shell) if event["event"] == "observer_failed"]
    assert [(event["plugin"], event["hook"], event["error"]) for event in failures] == [("acme", hook, said)]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
        (None, "no installed plugin is named 'acme'"),
        ("x = 1", "has no observer hook"),
    ],
)
def test_an_observer_that_cannot_watch_is_refused_at_its_place(
    shell: Shell, site: Site, recipe: dict[str, Any], source: str | None, said: str
) -> None:
    if source is not None:
        site.install(source)
    del recipe["regularizers"]
    recipe["plugins"] = {"observe": ["acme"]}
    answer = shell.run(recipe)
    answer.refuses(6, said, where=shell.place('"acme"'))


# -- verbs of plugins ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "command 'acme' of dist-acme 1.0 cannot be imported: ModuleNotFoundError"),
        ("import sys; sys.exit(0)", "command 'acme' of dist-acme 1.0 cannot be imported: SystemExit: 0"),
        ("def main(words): return 1 / 0", "command 'acme' of dist-acme 1.0 raised ZeroDivisionError"),
        ("def main(words): pass", "command 'acme' of dist-acme 1.0 raised TypeError"),
    ],
)
def test_a_verb_that_raises_names_its_distribution(shell: Shell, site: Site, source: str, said: str) -> None:
    site.install(source, group="fttool.commands.v1", target="acme_plugin:main")
    shell.main("acme").refuses(6, said)


# -- what the libraries say ----------------------------------------------------------------------------------------


@pytest.mark.full
def test_verbose_shows_what_the_libraries_log(shell: Shell, recipe: dict[str, Any]) -> None:
    """In a process of its own: the libraries read their verbosity once, as they are imported."""
    del recipe["regularizers"]
    shell.write(recipe)
    command = [sys.executable, "-m", "fttool", "run", str(shell.recipe), "--dry-run", "-v"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "[transformers] loading configuration file" in done.stderr
