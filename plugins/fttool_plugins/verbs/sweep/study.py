"""A sweep on disk: its folder of runs, and optuna's study in a database, which any number of workers share.

    runs/my-sweep/study.db        the study, unless it is in another database
    runs/my-sweep/made_of.json    recipe, space and objectives, so that nothing else goes on with it
    runs/my-sweep/trials.jsonl    what each trial came to: from it a lost study is made again
    runs/my-sweep/trial-0007/     a run directory like any other

Nothing here imports optuna before a study is opened.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from fttool.api import DiskError, UsageError
from fttool.verbs import Loaded, gist
from fttool_plugins.verbs.compare.past import NO_MATTER, flat
from fttool_plugins.verbs.sweep.objectives import Objective
from fttool_plugins.verbs.sweep.spaces import Choice, Space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

INSTALL = "pip install 'fttool[sweep]'"
DATABASE, MADE_OF, TRIALS = "study.db", "made_of.json", "trials.jsonl"
WHY, WORKER, RUN, SECONDS = "why", "worker", "run", "seconds"
"""What a trial's attributes say: why it has no value, which process makes it, its run directory, how long it took."""
QUEUED = "queued"
"""Says of a trial that its values were put in line, not asked of the sampler."""
AGAIN = "again"
"""Begins the reason of a failed trial that does not count: its values are tried again, or need not be."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sweep is."""

    folder: Path
    """Of its run directories."""
    url: str | None
    """Of its database, where that is not a file in the folder."""

    @property
    def address(self) -> str:
        """As optuna takes it."""
        return self.url or f"sqlite:///{(self.folder / DATABASE).absolute()}"

    def refuse_loss(self) -> None:
        """Raise `DiskError` where the database's file was moved or deleted meanwhile: SQLite would make a new one."""
        if self.url is None and not (self.folder / DATABASE).is_file():
            raise lost(self, "the file is gone")


def lost(place: Place, why: str) -> DiskError:
    """The error that says that the database cannot be reached."""
    kept = f"what its trials came to is in {place.folder / TRIALS} and in their run directories"
    if place.url:
        message = f"the sweep's database cannot be reached any more: {why}"
        return DiskError(message, hint=f"{kept}; once it can be reached, --resume goes on")
    file = place.folder / DATABASE
    message = f"the sweep's database '{file}' cannot be reached any more: {why}"
    return DiskError(message, hint=f"{kept}: remove what is left of {DATABASE}, and --resume makes it again")


@contextmanager
def reached(place: Place) -> Generator[None]:
    """Around what asks the study: a database that does not answer is a `DiskError`."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    place.refuse_loss()
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as fault:
        cause = fault.__cause__ or fault
        raise lost(place, gist(cause)) from fault
    except KeyError as fault:  # optuna finds no such study or trial: its tables were made anew
        raise lost(place, "what it held is gone") from fault


def made_of(loaded: Loaded, spaces: Sequence[Space], objectives: Sequence[Objective]) -> dict[str, Any]:
    """All by which one sweep differs from another, for JSON."""
    recipe = loaded.recipe.model_dump(mode="json", exclude_none=True)
    searched = tuple(space.key for space in spaces)
    return {
        "recipe": {
            key: value
            for key, value in flat(recipe)
            if key not in NO_MATTER and not any(f"{key}.".startswith(f"{own}.") for own in searched)
        },
        "over": sorted(map(str, spaces)),
        "objectives": [objective.name for objective in objectives],
    }


def refuse_another(place: Place, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise `UsageError` where a sweep is of another recipe, space or objective than is asked for."""
    differs = [
        f"{key} was {before['recipe'].get(key)!r} and is {now['recipe'].get(key)!r}"
        for key in {**before["recipe"], **now["recipe"]}
        if before["recipe"].get(key) != now["recipe"].get(key)
    ]
    for part, flag in (("over", "--over"), ("objectives", "--objective")):
        if before[part] != now[part]:
            differs.append(f"{flag} was {' '.join(before[part])} and is {' '.join(now[part])}")
    if differs:
        more = f" (and {len(differs) - 3} more)" if len(differs) > 3 else ""
        message = f"'{place.folder.name}' is a sweep of something else: {'; '.join(differs[:3])}{more}"
        raise UsageError(message, hint="begin another: --name NAME")


@contextmanager
def _connected(place: Place) -> Generator[None]:
    """The same when it is first asked: an address that leads nowhere is the command line's fault."""
    try:
        with reached(place):
            yield
    except ImportError as fault:
        hint = "e.g. pip install 'psycopg[binary]', and --study postgresql+psycopg://…"
        raise UsageError("the database of --study needs a driver that is not installed", hint=hint) from fault
    except DiskError as fault:
        if place.url is None:
            raise
        why = gist(fault.__cause__.__cause__ or fault.__cause__) if fault.__cause__ else str(fault)
        hint = "--study postgresql+psycopg://USER@HOST/DATABASE; nothing was begun"
        raise UsageError(f"the database of --study cannot be reached: {why}", hint=hint) from fault


def open_study(
    place: Place,
    about: Mapping[str, Any],
    objectives: Sequence[Objective],
    *,
    sampler: BaseSampler,
    pruner: BasePruner,
    resume: bool,
    spaces: Sequence[Space],
) -> Study:
    """The study of a sweep, made or found; nothing of another sweep is touched.

    Raises:
        UsageError: there is one already and it is not to be resumed, or it is of something else; or `--study` leads
            nowhere.
        DiskError: the file that is its database is damaged.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    _refuse_folder(place, about, resume=resume)
    if place.url is None:
        place.folder.mkdir(parents=True, exist_ok=True)
        (place.folder / DATABASE).touch()
    with _connected(place):
        study = optuna.create_study(
            storage=place.address,
            study_name=place.folder.name,
            directions=[objective.direction for objective in objectives],
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
        known = study.user_attrs.get("made_of")
        if known is not None and not resume:
            message = f"the database has a study '{place.folder.name}' already"
            raise UsageError(message, hint="go on with it: --resume, or begin another: --name NAME")
        if known is not None:
            refuse_another(place, known, about)
        else:
            study.set_user_attr("made_of", dict(about))
            _restore(study, place, spaces)
    place.folder.mkdir(parents=True, exist_ok=True)
    (place.folder / MADE_OF).write_text(json.dumps(about, indent=1), encoding="utf-8")
    return study


def _refuse_folder(place: Place, about: Mapping[str, Any], *, resume: bool) -> None:
    """Raise `UsageError` where the sweep's folder is another's, or not to be gone on with."""
    file = place.folder / MADE_OF
    if file.exists():
        if not resume:
            message = f"the sweep '{place.folder}' exists"
            raise UsageError(message, hint="go on with it: --resume, or begin another: --name NAME")
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as fault:
            hint = "remove it: the database knows what the sweep is of, too"
            raise UsageError(f"'{file}' is damaged: {gist(fault)}", hint=hint) from fault
        refuse_another(place, before, about)
    elif place.folder.exists() and any(place.folder.iterdir()) and not resume:
        raise UsageError(f"'{place.folder}' exists and is not a sweep", hint="choose another name: --name NAME")


# -- trials ----------------------------------------------------------------------------------------------------------


def distribution(space: Space) -> BaseDistribution:
    """In optuna's words; values of a choice are told apart by how they are written."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(space, Choice):
        return CategoricalDistribution(space.texts)
    if space.whole:
        return IntDistribution(int(space.low), int(space.high), log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards `--trials`: it has come to something, or is being made."""
    from optuna.trial import TrialState

    if trial.state == TrialState.FAIL:
        return not str(trial.user_attrs.get(WHY, AGAIN)).startswith(AGAIN)
    return trial.state != TrialState.WAITING


def worker() -> str:
    """This process, so that another one on this machine can find out whether it is still there."""
    return f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"


def _is_dead(who: str) -> bool:
    """Whether a process of this machine is there no more; of others nothing is known."""
    host, number, began = (*who.split(" "), "", "")[:3]
    if host != socket.gethostname():
        return False
    try:
        return abs(psutil.Process(int(number)).create_time() - float(began)) > 1
    except (psutil.NoSuchProcess, ValueError):
        return True


def free_the_dead(study: Study) -> int:
    """Let trials be tried again whose process on this machine was killed; returns their number."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    dead = [trial for trial in running if WORKER in trial.user_attrs and _is_dead(trial.user_attrs[WORKER])]
    for trial in dead:
        study.tell(trial.number, state=TrialState.FAIL)  # without a reason: it does not count
        if trial.params:
            study.enqueue_trial(trial.params, {QUEUED: True})
    return len(dead)


def note_trial(place: Place, trial: Mapping[str, Any]) -> None:
    """Append what a trial came to, before the database is told."""
    with (place.folder / TRIALS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(trial, ensure_ascii=False) + "\n")


def _restore(study: Study, place: Place, spaces: Sequence[Space]) -> None:
    """Make a study again whose database is lost, from what its trials came to."""
    from optuna.trial import TrialState, create_trial

    file = place.folder / TRIALS
    known = {space.key: distribution(space) for space in spaces}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            trial = json.loads(line)
        except ValueError:  # a crash has cut it off; its run directory is there
            continue
        study.add_trial(
            create_trial(
                state=TrialState[trial["state"]],
                values=trial["values"],
                params=trial["params"],
                distributions={key: known[key] for key in trial["params"]},
                user_attrs=trial["attributes"],
            )
        )
