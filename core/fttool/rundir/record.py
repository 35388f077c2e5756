"""The run directory: everything needed to understand a run and to make it again.

recipe.toml            as given
recipe.resolved.toml   every option, defaults and overrides included
lock.json              versions, plugins and their code, file hashes, hardware, git
metrics.jsonl          one line per log and evaluation
events.jsonl           what happened, when
summary.json           how it ended
checkpoints/           checkpoint-<step>/
flagged.jsonl          every row that a filter has flagged or changed, with its place and the reason, if there were any
dropped.jsonl          every row that was dropped or left out as bad, with its place and the reason, if there were any
logs/                  what other processes than the first have printed, if there were any
model/                 the final model, tokenizer and chat template, and the model card (README.md)
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tomli_w
from typing_extensions import override

from fttool import disk
from fttool.errors import Problem, UsageError
from fttool.events import Event
from fttool.plain import as_json, is_table
from fttool.recipe.loaded import Loaded
from fttool.rundir import checkpoints, lines
from fttool.rundir.code import code_of
from fttool.rundir.commit import commit
from fttool.rundir.lines import Line
from fttool.rundir.writer_lock import Held

PACKAGES = (
    "fttool",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
)
"""Whose versions decide what a run computes."""

CHECKPOINTS = "checkpoints"
"""The folder in a run directory that receives them."""
SEAL = "# sha256 of the lines above: "
"""Begins the last line of `recipe.resolved.toml`: a file that a crash has cut off may still be TOML."""
LINES = {"metrics.jsonl": "step", "events.jsonl": "event"}
"""The files of lines, and what each line of them has."""
ANOTHER = "choose another name: --set run.name=…"
ELSEWHERE = "choose another folder: --set run.output=…"


class Record:
    """Writes the run directory; whole files are replaced at once, lines are appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self.model = path / "model"
        self.held: Held | None = None
        """From `hold` or `create` to `release`: no other process writes here."""

    @staticmethod
    def place(loaded: Loaded) -> Path:
        """Where the run directory of a recipe is."""
        return Path(loaded.recipe.run.output).expanduser().absolute() / loaded.name

    @classmethod
    def at(cls, loaded: Loaded, resume: bool) -> Record:
        """The run's place, checked but not yet made; an existing one is refused unless it is to be resumed."""
        path = cls.place(loaded)
        _refuse_place(loaded, path, resume)
        return cls(path)

    @classmethod
    def tried(cls, loaded: Loaded) -> str:
        """Try name and place as `at` does; a sentence where a new run would be refused, as there is one already."""
        path = cls.place(loaded)
        _refuse_place(loaded, path, resume=None)
        return f"the run directory '{path}' exists: this run would need another name" if path.exists() else ""

    def create(self, loaded: Loaded, lock: Mapping[str, Any], fill: Callable[[Record], None] = lambda _: None) -> None:
        """Make the directory with what is known before training, complete or absent; another run may be quicker.

        `fill` adds to it what the run begins with.
        """
        aside = Record(self.path.with_name(f".{secrets.token_hex(8)}.partial"))
        try:
            with disk.writing(self.path):
                aside.checkpoints.mkdir(parents=True)
                aside.hold()
                aside._write("recipe.toml", loaded.text)
                aside._write("recipe.resolved.toml", sealed(resolved(loaded)))
                fill(aside)
                aside._write("lock.json", _json(with_seal(lock)))
                aside._become(self.path)
        except BaseException:
            aside.release()
            shutil.rmtree(aside.path, ignore_errors=True)
            raise
        self.held = aside.held

    def _become(self, path: Path) -> None:
        assert self.held is not None
        try:
            self.path.rename(path)
            self.held.folder = path
            disk.flush(path.parent)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            raise UsageError(f"'{path}' was created meanwhile by another run", hint=ANOTHER) from None

    def hold(self, note: Callable[[str], None] = lambda _: None) -> None:
        """Keep other processes from writing here until `release`; raises `UsageError` where one does."""
        with disk.writing(self.path):
            self.held = Held.take(self.path, note)

    def release(self) -> None:
        """Let others write here again."""
        if self.held is not None:
            self.held.release()

    def refuse_loss(self) -> None:
        """Raise `DiskError` where the directory that this process holds was moved or deleted meanwhile."""
        if self.held is not None:
            self.held.refuse_loss()

    def resolved_recipe(self) -> str:
        """The resolved recipe that this directory was made with; `ValueError` where it is not as it was written."""
        return unsealed((self.path / "recipe.resolved.toml").read_text(encoding="utf-8"))

    def lock(self) -> dict[str, Any]:
        """The lock that this directory was made with; `ValueError` where it is not as it was written."""
        content: Any = json.loads((self.path / "lock.json").read_text(encoding="utf-8"))
        if not is_table(content) or with_seal(content) != content:
            raise ValueError("it was changed after it was written: its hash differs")
        return dict(content)

    def has_model(self, step: int) -> bool:
        """True where the run has finished after `step` updates, and its model is there as it was written."""
        summary = self._summary()
        finished = (summary.get("status"), summary.get("steps")) == ("finished", step)
        return finished and bool(summary.get("files")) and not self.lost_files()

    def lost_files(self) -> list[str]:
        """Files of a finished run's model that are missing, or not what was written."""
        files = self._summary().get("files", {})
        return disk.damaged(self.path, files) if is_table(files) else ["summary.json"]

    def _summary(self) -> Mapping[str, Any]:
        """How the run ended last; empty where that is not known."""
        try:
            summary: Any = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return summary if is_table(summary) else {}

    def extend(self, loaded: Loaded) -> None:
        """Record the recipe of a resumed run that may be longer; the one before is kept."""
        text = resolved(loaded)
        if text != self.resolved_recipe():
            taken = len(list(self.path.glob("recipe.resolved.*.toml")))
            (self.path / "recipe.resolved.toml").rename(self.path / f"recipe.resolved.{taken + 1}.toml")
            self._write("recipe.resolved.toml", sealed(text))

    def mend(self) -> list[str]:
        """Put lines that a crash has damaged out of the way; a sentence for each file that had some."""
        return [sentence for name, needed in LINES.items() for sentence in lines.mend(self.path / name, needed)]

    def rewind(self, step: int) -> None:
        """Take the lines of updates after `step`, and of final weights, out of `metrics.jsonl`.

        A run that resumes there writes them again.
        """
        self.begin_like(self, step)

    def begin_like(self, other: Record, step: int) -> None:
        """Write what another run's `metrics.jsonl` says of updates up to `step`, but not of its final weights."""
        lines_kept = [line for line, values in other._measured() if values["step"] <= step and not values.get("final")]
        if lines_kept or (self.path / "metrics.jsonl").exists():
            lines.write(self.path / "metrics.jsonl", lines_kept)

    def went_beyond(self, step: int) -> bool:
        """True where there is a checkpoint or a line of a later update."""
        return bool(checkpoints.after(self.checkpoints, step)) or any(
            values["step"] > step for _, values in self._measured()
        )

    def set_aside(self, step: int, total: int) -> Path:
        """Move what the run wrote after `step`, while it was to have `total` updates, into a run directory in this one.

        For a run that goes on from there in another way. What is moved is still a finished run, or one to resume:
        nothing of it is lost. Done again after a crash, this ends as if there had been none.
        """
        aside = Record(self.path / f"until-{total}")
        aside.checkpoints.mkdir(parents=True, exist_ok=True)
        for folder in checkpoints.after(self.checkpoints, step):
            folder.rename(aside.checkpoints / folder.name)
        for pattern in ("model*", "summary.json"):
            for entry in self.path.glob(pattern):
                entry.rename(aside.path / entry.name)
        for name in ("metrics.jsonl", "events.jsonl", "recipe.toml", "recipe.resolved.toml", "lock.json"):
            if (self.path / name).exists() and not (aside.path / name).exists():
                aside._write(name, (self.path / name).read_text(encoding="utf-8"))
        return aside.path

    def event(self, event: Event, *, flushed: bool = False) -> None:
        """Append a line to `events.jsonl`; `flushed`: it is on disk then."""
        self._append("events.jsonl", event.stamped(), flushed=flushed)

    def metrics(self, values: Mapping[str, Any]) -> None:
        """Append a line to `metrics.jsonl`."""
        self._append("metrics.jsonl", values)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Write `summary.json`."""
        self._write("summary.json", _json(values))

    def dropped(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write `dropped.jsonl`: dataset, place, reason and excerpt of each row that is not learned from."""
        self._write_lines("dropped.jsonl", rows)

    def flagged(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write `flagged.jsonl`: the same of each row that a filter has flagged, or changed, and kept."""
        self._write_lines("flagged.jsonl", rows)

    def _measured(self) -> list[tuple[Line, Mapping[str, Any]]]:
        """The lines of `metrics.jsonl` that can be read, and what they say."""
        parsed = lines.read(self.path / "metrics.jsonl", LINES["metrics.jsonl"])
        return [(line, line.values) for line in parsed if line.values is not None]

    def _write_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a file of JSON lines; none where there are no rows."""
        if text := "".join(json.dumps(as_json(row), ensure_ascii=False) + "\n" for row in rows):
            self._write(name, text)

    def _append(self, name: str, values: Mapping[str, Any], *, flushed: bool = False) -> None:
        self.refuse_loss()
        if self.path.exists():
            lines.append(self.path / name, as_json(values), flushed=flushed)

    def _write(self, name: str, text: str) -> None:
        self.refuse_loss()
        disk.write_atomically(self.path / name, text)


class Unwritten(Record):
    """The run directory to the other processes of a run: the first one writes it."""

    @override
    def event(self, event: Event, *, flushed: bool = False) -> None: ...

    @override
    def metrics(self, values: Mapping[str, Any]) -> None: ...

    @override
    def summary(self, values: Mapping[str, Any]) -> None: ...


def _refuse_place(loaded: Loaded, path: Path, resume: bool | None) -> None:
    """Refuse a run directory that cannot be; with None as `resume` it may be there or not."""
    output = Path(loaded.recipe.run.output).expanduser().absolute()
    try:
        _refuse_path(path, output, resume)
        _try(path)
    except OSError as error:
        number = disk.refusal(error)
        if number is not None:
            raise disk.disk_error(number, path) from error
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            message = f"no folder can be created under the name '{path}': {error.strerror}"
            raise UsageError(Problem(message, hint=ANOTHER, key=("run", "name"))) from error
        message = f"cannot write in '{output}': {error.strerror or error}"
        raise UsageError(Problem(message, hint=ELSEWHERE, key=("run", "output"))) from error


def _refuse_path(path: Path, output: Path, resume: bool | None) -> None:
    """Refuse a run directory that exists, cannot be resumed, or lies elsewhere."""
    name, place = ("run", "name"), ("run", "output")
    if output.resolve() not in path.resolve().parents:
        what = "is a link that leads" if path.is_symlink() else "leads"
        raise UsageError(Problem(f"'{path}' {what} out of '{output}'", hint=ANOTHER, key=name))
    if resume and not path.exists():
        raise UsageError(Problem(f"no run to resume at '{path}'", hint="leave --resume out", key=name))
    if resume and not (path / "lock.json").is_file():
        raise UsageError(Problem(f"'{path}' is not a run directory: nothing to resume", hint=ANOTHER, key=name))
    if path.exists() and resume is False:
        message = f"the run directory '{path}' exists; it is never overwritten"
        raise UsageError(Problem(message, hint=f"go on with it: --resume; or {ANOTHER}", key=name))
    parent = disk.nearest(path)
    if not parent.is_dir():
        raise UsageError(Problem(f"'{parent}' is a file, not a folder", hint=ELSEWHERE, key=place))


def _try(path: Path) -> None:
    """Make the folders that are missing, elsewhere, and a file; raises `OSError` where that cannot be.

    To try is the only sure way: the rights of a folder say little to root, on Windows, or over a network, and each
    file system has names of its own that it takes.
    """
    parent = disk.nearest(path)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".fttool-") as scratch:
        folder = Path(scratch, *path.parts[len(parent.parts) :], CHECKPOINTS)
        folder.mkdir(parents=True)
        (folder / "file").touch()


def resolved(loaded: Loaded) -> str:
    """The recipe with every option written out, as TOML that runs from wherever it lies."""
    decided = {"name": loaded.name, "folder": str(loaded.folder.resolve()), "global_batch": loaded.recipe.global_batch}
    run = loaded.recipe.run.model_copy(update=decided)
    return tomli_w.dumps(loaded.recipe.model_copy(update={"run": run}).model_dump(mode="json", exclude_none=True))


def sealed(text: str) -> str:
    """A text that tells whether it is complete."""
    return f"{text}{SEAL}{hashlib.sha256(text.encode('utf-8')).hexdigest()}\n"


def unsealed(text: str) -> str:
    """What was `sealed`; raises `ValueError` where a crash or a person has changed it."""
    content, _, _ = text.rpartition(SEAL)
    if sealed(content) != text:
        raise ValueError("it is cut off, or was edited: its last line does not fit what stands above")
    return content


def with_seal(lock: Mapping[str, Any]) -> dict[str, Any]:
    """A lock with the hash of its own content, as `sha256`."""
    content = {key: value for key, value in lock.items() if key != "sha256"}
    return {**content, "sha256": hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()}


def lock(loaded: Loaded, sources: Sequence[Mapping[str, Any]], model: Mapping[str, str]) -> dict[str, Any]:
    """What this run depends on beside its recipe."""
    used = {strategy.id().partition(".")[0] for _, strategy in loaded.recipe.strategies() if "." in strategy.id()}
    used |= set(loaded.recipe.plugins.observe)
    plugins = [loaded.plugins.entry(name) for name in sorted(used)]
    rooms = [entry for entry in loaded.plugins.entries if entry.ours]
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "plugins": [{"name": p.name, "distribution": p.distribution, "version": p.version} for p in plugins],
        "code": code_of([*rooms, *plugins]),
        "files": list(sources),
        "model": dict(model),
        "hardware": _hardware(),
        "git": {"commit": commit(loaded.folder)},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _hardware() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count(), "gpus": gpus}


def peak_memory_bytes() -> int:
    """Most memory this process held: on the GPU where there is one, else resident on the machine."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(as_json(values), indent=2, ensure_ascii=False) + "\n"
