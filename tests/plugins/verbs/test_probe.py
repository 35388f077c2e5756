"""`fttool probe`: candidates that make the same updates, each in processes of its own, and what follows from them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tomli
from tomli_w import dumps

from fttool.api import UsageError
from fttool.cli import main
from fttool.recipe.reading import load
from fttool_plugins.verbs.probe import candidates, measuring, recommending
from fttool_plugins.verbs.probe.candidates import Candidate
from fttool_plugins.verbs.probe.measuring import Outcome

from ...rows import write_rows

GIB = 2**30


@pytest.fixture
def recipe(fttool_recipe: dict[str, Any], tmp_path: Path, fttool_rows: Path) -> dict[str, Any]:
    """With all around an update that a measurement must leave out; its rows lie beside it."""
    (tmp_path / "rows.jsonl").write_text(fttool_rows.read_text())
    fttool_recipe["data"] = {
        "train": [{"path": "rows.jsonl", "format": "messages"}],
        "retention": [{"path": "rows.jsonl", "name": "old"}],
        "eval_share": 0.1,
    }
    fttool_recipe["run"] = {"epochs": 2, "micro_batch": 2, "global_batch": 8, "output": str(tmp_path / "runs")}
    fttool_recipe["schedule"] = {"name": "wsd", "warmup": 500}
    fttool_recipe["evaluation"] = {"every": 1, "best": "loss", "early_stopping": 1}
    fttool_recipe["checkpoints"] = {"every": 1}
    fttool_recipe["tracking"] = {"to": ["tensorboard"]}
    return fttool_recipe


@pytest.fixture
def write(tmp_path: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write the recipe with some of its tables changed; what a test starts leaves its own files in `tmp_path/tmp`."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    for name in ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)

    def call(**tables: Any) -> str:
        (tmp_path / "my.toml").write_text(dumps({**recipe, **tables}))
        return str(tmp_path / "my.toml")

    return call


def assert_nothing_is_left(folder: Path) -> None:
    assert {one.name for one in folder.iterdir()} == {"my.toml", "rows.jsonl", "tmp"}
    assert not list((folder / "tmp").iterdir())


# -- real runs -----------------------------------------------------------------------------------------------------


@pytest.mark.dist
@pytest.mark.full
def test_two_shardings_are_measured(tmp_path: Path, write: Callable[..., str], capsys: Any) -> None:
    recipe = write(sharding={"name": "ddp", "processes": 2, "max_restarts": 2})
    words = [recipe, "--sharding", "recipe,fsdp-3", "--micro-batches", "2", "--updates", "2", "--json"]
    assert main(["probe", *words]) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert "… 2 of 2: fsdp-3 with micro-batch 2\n" in shown.err
    ddp, fsdp = found["candidates"]
    assert (ddp["sharding"], fsdp["sharding"]) == ("ddp", "fsdp-3")
    for one in (ddp, fsdp):
        assert one["status"] == "measured" and one["accumulation"] == 2, one
        assert len(one["updates"]) == 2 and len(one["ranks"]) == 2
        assert one["tokens_per_second"] == pytest.approx(sum(one["updates"]) / 2)
        assert one["peak_memory_bytes"] == max(one["ranks"]) > 2**20
    assert max(ddp["of_the_best"], fsdp["of_the_best"]) == 1
    taken = found["candidates"][found["recommendation"]["candidate"]]
    assert taken["sharding"] in found["recommendation"]["why"]
    assert_nothing_is_left(tmp_path)


@pytest.mark.full
def test_the_recipes_own_sharding_is_measured_from_anywhere(
    tmp_path: Path, write: Callable[..., str], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, elsewhere = write(), tmp_path / "tmp" / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["probe", recipe, "--micro-batches", "4", "--updates", "1"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("my: 1 update of 8 rows, after one to warm up\n")
    assert "Only none with micro-batch 4 was measured.\n\n  [run]\n  micro_batch = 4\n" in said.out
    assert "  ←\n" in said.out and "There is no GPU" in said.out
    assert said.err.startswith("… 1 of 1: none with micro-batch 4\n  ")
    elsewhere.rmdir()
    assert_nothing_is_left(tmp_path)


@pytest.mark.full
def test_a_run_that_fails_says_why(tmp_path: Path, write: Callable[..., str], capsys: Any) -> None:
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\nnot json\n')
    assert main(["probe", write(), "--micro-batches", "1", "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    (one,) = found["candidates"]
    assert (one["status"], one["exit_code"], found["recommendation"]) == ("failed", 4, None)
    assert "rows.jsonl:2" in one["reason"] and "\n" not in one["reason"]
    assert_nothing_is_left(tmp_path)


@pytest.mark.dist
@pytest.mark.full
@pytest.mark.parametrize(("sharding", "number", "code"), [("ddp", signal.SIGTERM, 143), ("none", signal.SIGINT, 130)])
def test_a_signal_ends_all_of_it(
    tmp_path: Path, write: Callable[..., str], sharding: str, number: int, code: int
) -> None:
    recipe, folder = write(), tmp_path / "tmp"
    words = ["probe", recipe, "--sharding", sharding, "--processes", "2", "--micro-batches", "2", "--updates", "99999"]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell makes what it runs in the background deaf to it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "fttool", *words]
    started = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(folder)}, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: any(file.stat().st_size for file in folder.glob("*/1/metrics.jsonl")))
        assert len(running(folder)) >= (4 if sharding == "ddp" else 2)
        started.send_signal(number)
        _, said = started.communicate(timeout=60)
    finally:
        started.kill()
    assert started.returncode == code, said
    wait_for(lambda: not running(folder))
    assert_nothing_is_left(tmp_path)


def running(folder: Path) -> list[str]:
    """Processes that were told to keep their files in `folder`."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
            if f"TMPDIR={folder}".encode() in (process / "environ").read_bytes() and state != "Z":
                found.append(process.name)
        except OSError:  # it has just ended
            continue
    return found


def wait_for(what: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


# -- what is measured ----------------------------------------------------------------------------------------------


def chosen(recipe: str, *words: str, processes: int | None = None, sizes: Sequence[int] = ()) -> list[Candidate]:
    loaded = load(Path(recipe))
    return candidates.make_candidates(
        loaded, candidates.shardings(loaded, words, processes), sizes, 6, Path("/nowhere")
    )


def test_all_are_those_that_the_processes_can_have(write: Callable[..., str]) -> None:
    def names(*words: str, processes: int | None = None) -> list[str]:
        return list(dict.fromkeys(one.sharding for one in chosen(recipe, *words, processes=processes)))

    recipe = write()
    assert names() == names("all") == ["none"]
    several = ["ddp", "fsdp-2", "fsdp-3", "zero-1", "zero-2", "zero-3"]
    assert names("all", processes=2) == several
    assert names("zero", "none", "fsdp", processes=2) == ["zero-1", "zero-2", "zero-3", "none", "fsdp-2", "fsdp-3"]
    recipe = write(sharding={"name": "fsdp", "processes": 2, "reshard_after_forward": False, "timeout": 9})
    assert names() == ["fsdp-2"] and names("all") == several
    recipe = write(sharding={"name": "fsdp", "processes": 2, "cpu_offload": True})
    assert names() == ["recipe (fsdp)"] and names("all") == [*several, "recipe (fsdp)"]


def test_a_candidate_is_the_recipe_but_for_what_is_around_an_update(write: Callable[..., str]) -> None:
    recipe = write(sharding={"name": "fsdp", "processes": 2, "cpu_offload": True, "nodes": 2, "max_restarts": 3})
    ddp, own = chosen(recipe, "ddp", "recipe", processes=4, sizes=[2])
    assert ddp.options == {"name": "ddp", "processes": 4} and not ddp.own
    assert own.options == {"name": "fsdp", "processes": 4, "cpu_offload": True, "nodes": 1, "max_restarts": 0}
    for one in (ddp, own):
        assert one.loaded is not None, one.refusal
        made = one.loaded.recipe
        assert made.sharding.launch.processes == 4 and made.sharding.launch.nodes == 1
        assert (made.run.max_steps, made.run.epochs, made.global_batch, made.accumulation) == (6, None, 8, 1)
        assert not made.has_eval and not made.data.retention and not made.tracking.to
        assert made.evaluation.every is made.evaluation.best is made.evaluation.early_stopping is None
        words = measuring.command(one.loaded)
        assert words[:6] == [sys.executable, "-m", "fttool", "run", recipe, "--quiet"] and "--no-save" in words


@pytest.mark.parametrize(
    ("processes", "asked", "expected"),
    [(1, [], [1, 2, 4]), (2, [], [1, 2, 4]), (4, [], [1, 2]), (8, [], [1]), (2, [4, 1, 4], [1, 4])],
)
def test_micro_batches_divide_an_update(
    write: Callable[..., str], processes: int, asked: list[int], expected: list[int]
) -> None:
    assert candidates.micro_batches(load(Path(write())), processes, asked) == expected


def test_a_micro_batch_that_is_no_number_is_asked_for(write: Callable[..., str]) -> None:
    run = SimpleNamespace(micro_batch="auto")
    loaded: Any = SimpleNamespace(recipe=SimpleNamespace(global_batch=8, run=run))
    assert candidates.micro_batches(loaded, 2, [2]) == [2]
    with pytest.raises(UsageError, match="--micro-batches"):
        candidates.micro_batches(loaded, 2, [])


# -- what follows --------------------------------------------------------------------------------------------------


def made(name: str, speed: float = 0, gib: float = 0, status: Any = "measured", **more: Any) -> Outcome:
    """An outcome that nobody measured."""
    options = {"name": name, "processes": 2}
    candidate = Candidate(sharding=name, options=options, micro_batch=2, accumulation=2, own=False)
    values = {"speeds": [speed / 2, speed, 3 * speed], "peaks": [1, round(gib * GIB)]} if speed else {}
    return Outcome(candidate=candidate, status=status, **values, **more)


def test_the_fastest_is_recommended_unless_as_fast_a_one_needs_less_memory() -> None:
    ddp, failed = made("ddp", 1000, 9), made("zero-3", status="failed", reason="no")
    assert recommending.best([failed, ddp, made("fsdp-3", 949, 1)]) is ddp
    assert recommending.why([failed, ddp, made("fsdp-3", 949, 1)]) == "Take ddp with micro-batch 2: the fastest."
    near, nearer = made("fsdp-3", 951, 3), made("fsdp-2", 990, 4)
    assert recommending.best([ddp, near, nearer]) is near
    said = recommending.why([ddp, near, nearer])
    assert said.startswith(
        "Take fsdp-3 with micro-batch 2: of those within 5% of the fastest it needs the least memory."
    )
    assert "ddp with micro-batch 2 was 5% faster" in said
    same = made("other", 1000, 9)
    assert recommending.best([near, made("x", 960, 3)]).candidate.sharding == "x"
    assert recommending.fastest([ddp, same]) is ddp
    assert recommending.best([failed]) is None and recommending.why([failed]) == "Nothing could be measured."
    assert recommending.why([failed, ddp]) == "Only ddp with micro-batch 2 was measured."


def test_the_lines_are_a_part_of_a_recipe() -> None:
    run = {"micro_batch": 2, "global_batch": 8}
    assert tomli.loads(recommending.lines(made("ddp", 1, 1), 8)) == {
        "run": run,
        "sharding": {"name": "ddp", "processes": 2},
    }
    own = Candidate(sharding="ddp", options={"name": "ddp"}, micro_batch=2, accumulation=2, own=True)
    assert tomli.loads(recommending.lines(Outcome(candidate=own), 8)) == {"run": run}


def test_a_message_is_found_in_what_a_run_says() -> None:
    report = (
        "Traceback (most recent call last):\n  File …\nRuntimeError: two\nfttool failed: RuntimeError: two\n    in it"
    )
    assert measuring.gist(report) == "RuntimeError: two"
    assert measuring.gist("--set x resets y\nmy.toml:1:2: rows are wrong\n    fix them\n    in process 2 of 2\n") == (
        "my.toml:1:2: rows are wrong"
    )
    assert measuring.gist("\n") == "it ended without output"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let runs end with the codes given, by micro-batch; returns the list of those that were started."""

    def install(codes: Mapping[int, int], said: str = "out of memory") -> list[str]:
        started: list[str] = []

        def ended(words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
            values = dict(word.split("=", 1) for word in words if "=" in word)
            started.append(f"{tomli.loads('x=' + values['sharding'])['x']['name']} {values['run.micro_batch']}")
            code = codes[int(values["run.micro_batch"])]
            if code == 0:
                run = Path(values["run.output"].strip('"')) / values["run.name"].strip('"')
                run.mkdir()
                lines = [{"loss": 1.0, "step": step, "tokens_per_second": 10.0 * step} for step in (1, 2, 3)]
                write_rows(run / "metrics.jsonl", lines)
                (run / "summary.json").write_text(json.dumps({"sharding": {"ranks": [{"peak_memory_bytes": GIB}]}}))
                (run / "lock.json").write_text(json.dumps({"hardware": {"gpus": ["H100"]}}))
            return code, said

        monkeypatch.setattr(measuring, "_ended", ended)
        return started

    return install


def test_where_a_micro_batch_has_no_memory_a_larger_one_is_not_tried(
    tmp_path: Path, write: Callable[..., str], fake: Callable[..., list[str]], capsys: Any
) -> None:
    started = fake({1: 0, 2: 7, 4: 7})
    assert main(["probe", write(), "--sharding", "ddp,fsdp-3", "--processes", "2", "-q"]) == 0
    assert started == ["ddp 1", "ddp 2", "fsdp 1", "fsdp 2"]
    said = capsys.readouterr()
    assert said.err == "" and "There is no GPU" not in said.out
    lines = [line.split() for line in said.out.splitlines()]
    assert ["ddp", "1", "4", "25", "100%", "1.00", "←"] in lines
    assert ["ddp", "2", "2", "out", "of", "memory"] in lines
    assert ["fsdp-3", "4", "1", "not", "tried:", "out", "of", "memory", "at", "2"] in lines
    assert all(len(line) <= 80 for line in said.out.splitlines())
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize(("codes", "expected"), [({1: 7, 2: 7, 4: 7}, 7), ({1: 8, 2: 7, 4: 7}, 7), ({1: -9}, 1)])
def test_where_all_fail_the_exit_code_says_how(
    write: Callable[..., str], fake: Callable[..., list[str]], codes: dict[int, int], expected: int, capsys: Any
) -> None:
    fake(codes)
    sizes = ",".join(map(str, codes))
    assert main(["probe", write(), "--micro-batches", sizes]) == expected
    assert "Nothing could be measured." in capsys.readouterr().out


def test_what_validate_refuses_is_shown_with_its_reason(
    write: Callable[..., str], fake: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    started = fake({2: 0})
    monkeypatch.setattr(candidates, "find_spec", lambda name: True)
    words = ["--micro-batches", "2", "--processes", "2", "--json", "-q"]
    recipe = write(optimizer={"name": "muon"})
    assert main(["probe", recipe, "--sharding", "zero-1,ddp", *words]) == 0
    zero, ddp = json.loads(capsys.readouterr().out)["candidates"]
    assert started == ["ddp 2"] and ddp["status"] == "measured"
    assert (zero["status"], zero["exit_code"]) == ("refused", 3) and "muon" in zero["reason"]
    assert main(["probe", recipe, "--sharding", "zero", *words]) == 3
    monkeypatch.setattr(candidates, "find_spec", lambda name: None)
    assert main(["probe", write(), "--sharding", "zero-3", *words]) == 3
    assert "fttool[deepspeed]" in capsys.readouterr().out


def test_what_the_recipe_has_already_is_said(
    write: Callable[..., str], fake: Callable[..., list[str]], capsys: Any
) -> None:
    fake({1: 8, 2: 0, 4: 8})
    assert main(["probe", write(sharding={"name": "ddp", "processes": 2})]) == 0
    assert capsys.readouterr().out.endswith("Only ddp with micro-batch 2 was measured.\nThe recipe has it so.\n")


# -- misuse --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--sharding", "fdsp-3"], 2, "did you mean 'fsdp-3'?"),
        (["--sharding", "ddp", "--micro-batches", "3"], 2, "what does: 1, 2, 4"),
        (["--sharding", "ddp", "--processes", "3"], 2, "--set run.global_batch=9"),
        (["--set", "sharding.nodes=2"], 2, "--processes N"),
        (["--set", "sharding=none", "--processes", "2"], 2, "--sharding all"),
        (["--set", "optimizer.lr=-1"], 3, "optimizer.lr"),
    ],
)
def test_misuse_is_told(write: Callable[..., str], words: list[str], code: int, said: str, capsys: Any) -> None:
    assert main(["probe", write(sharding={"name": "ddp", "processes": 2}), *words]) == code
    shown = capsys.readouterr()
    assert said in shown.err and shown.out == ""


@pytest.mark.parametrize(
    "words", [["--updates", "-1"], ["--updates", "0"], ["--micro-batches", "1,x"], ["--sharding", ","], []]
)
def test_words_that_are_none_are_refused(write: Callable[..., str], words: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["probe", *([write()] if words else []), *words])
    assert ended.value.code == 2 and "fttool probe: error" in capsys.readouterr().err


def test_there_must_be_a_recipe_and_no_launcher(
    tmp_path: Path, write: Callable[..., str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    assert main(["probe", str(tmp_path / "none.toml")]) == 3
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["probe", write()]) == 2
    assert "without a launcher" in capsys.readouterr().err
    assert_nothing_is_left(tmp_path)


def test_torch_is_not_imported_here(write: Callable[..., str]) -> None:
    script = """if True:
        import sys
        from fttool.cli import main
        from fttool_plugins.verbs.probe import measuring
        measuring._ended = lambda words, environment: (7, "")
        assert main(["probe", sys.argv[1], "--sharding", "all", "--processes", "2"]) == 7
        assert "torch" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", script, write()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
