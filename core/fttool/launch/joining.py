"""Who starts the processes of a run: this launcher, or another one that has done so already."""

from __future__ import annotations

import os
from typing import Any

from fttool.errors import UsageError
from fttool.recipe.loaded import Loaded


def must_launch(loaded: Loaded, *, placed: bool = False) -> bool:
    """True where this process has to start those that the recipe asks for; false in a process of a run.

    Where the command line has `placed` this process on a machine, `srun` has started launchers. Raises `UsageError`
    where another launcher has started processes and the recipe or the command line asks for something else.
    """
    wanted = loaded.recipe.sharding.world_size
    if not placed:
        _join_slurm(os.environ)
    started = os.environ.get("WORLD_SIZE")
    if started is None:
        return wanted > 1
    if placed:
        hint = "leave --node-rank and --rendezvous out: it has said both already"
        raise UsageError("another launcher has started this process", hint=hint)
    if started != str(wanted):
        sharding = loaded.recipe.sharding.id()
        message = f"the launcher has started {started} processes, and sharding '{sharding}' is for {wanted}"
        hint = f"let it start {wanted}, or take a [sharding] for {started}: docs/scale.md"
        raise UsageError(message, hint=hint, where=loaded.where(("sharding",)))
    return False


def _join_slurm(environment: Any) -> None:
    """Say in torch's words what SLURM says in its own, where `srun` has started the processes of the run.

    A single task is a shell, or this launcher.
    """
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks == "1" or "RANK" in environment:
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment["WORLD_SIZE"] = tasks
    environment.setdefault("MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"]))
    environment.setdefault("MASTER_PORT", str(20000 + int(environment.get("SLURM_JOB_ID", 0)) % 20000))


def first_host(hosts: str) -> str:
    """The first of `node[03-05,9],other`: `node03`."""
    head, bracket, rest = hosts.split(",")[0].partition("[")
    return f"{head}{rest.rstrip(']').split('-')[0]}" if bracket else head
