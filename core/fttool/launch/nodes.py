"""The machines of a run: a launcher on each. They meet, learn of each other's failures, and agree on what comes next.

The first holds a store that the others reach by `--rendezvous HOST:PORT`, and opens another one for each attempt, by
which the processes find each other: what an earlier attempt has left in it can mislead nobody. Whoever reaches such a
store can write to it, so on one machine all of it listens on the loopback interface alone.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from fttool.errors import FttoolError, UsageError, gist
from fttool.launch.verdict import Ended

MEETING = 900
"""Seconds that the launchers wait for the last of them to be started."""
ANSWER = 20
"""Seconds in which a launcher that lives says how its processes have ended, once one of the run's has."""
LOOPBACK = "127.0.0.1"


class Nodes:
    """This launcher among those of the run; alone it answers at once."""

    def __init__(self, size: int = 1, rank: int = 0, host: str = LOOPBACK, port: int = 0) -> None:
        self.size, self.rank, self.host, self.port = size, rank, host, port
        self.store: Any = None

    @classmethod
    def of(cls, size: int, rank: int | None, rendezvous: str | None) -> Nodes:
        """As the command line says; raises `UsageError` where that is not enough, or not for so many machines."""
        given = [flag for flag, value in (("--node-rank", rank), ("--rendezvous", rendezvous)) if value is not None]
        if size == 1 and given:
            raise UsageError(f"{given[0]} is for a run on several nodes", hint="add --nodes N, or set sharding.nodes")
        if size == 1:
            return cls()
        if rank is None or rendezvous is None:
            raise UsageError(
                f"the run is for {size} nodes: each must be told which it is, and where they meet",
                hint="fttool run … --node-rank 0 --rendezvous HOST:29400 on HOST, with --node-rank 1 on the next one",
            )
        if not 0 <= rank < size:
            raise UsageError(
                f"--node-rank {rank} is out of range for {size} nodes", hint=f"it goes from 0 to {size - 1}"
            )
        host, _, port = rendezvous.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise UsageError(
                f"--rendezvous '{rendezvous}' is not of the form HOST:PORT", hint="e.g. --rendezvous node03:29400"
            )
        return cls(size, rank, host.strip("[]"), int(port))

    @property
    def first(self) -> bool:
        """True on the machine of the process that shows the run."""
        return self.rank == 0

    def meet(self) -> None:
        """Wait until every launcher is here."""
        if self.size == 1:
            return
        from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

        end = time.monotonic() + MEETING
        if not self.first:
            _until(self._reachable, end, f"nobody answers at {self.host}:{self.port}: is node 0 started?")
        try:
            self.store = TCPStore(
                self.host, self.port, is_master=self.first, timeout=timedelta(seconds=ANSWER), wait_for_workers=False
            )
        except RuntimeError as fault:
            raise UsageError(
                f"nodes cannot meet at {self.host}:{self.port}: {gist(fault)}",
                hint="HOST is an address of node 0, and PORT is free there; another run may hold it",
            ) from fault
        if self.store.add(f"node/{self.rank}", 1) > 1:
            raise UsageError(f"there are two launchers with --node-rank {self.rank}", hint="give each its own")
        here = [f"node/{rank}" for rank in range(self.size)]
        _until(lambda: self.store.check(here), end, f"not all of the {self.size} nodes were started")

    def endpoint(self, attempt: int) -> str:
        """Where the processes of an attempt find each other."""
        from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

        if self.first:
            # Kept until the next attempt; the elastic launcher shares the server of a port that is open here.
            self._open: Any = TCPStore(self.host, is_master=True, wait_for_workers=False, **self._listening())
            if self.store is not None:
                self.store.set(f"{attempt}/port", str(self._open.port))
            return f"{self.host}:{self._open.port}"
        end = time.monotonic() + ANSWER
        _until(lambda: self.store.check([f"{attempt}/port"]), end, "node 0 does not answer any more")
        return f"{self.host}:{int(self.store.get(f'{attempt}/port'))}"

    def _listening(self) -> dict[str, Any]:
        """Where a store listens: torch's own choice is every interface, whatever the host that it is given."""
        if self.size > 1:
            return {"port": 0, "multi_tenant": True}
        opened = socket.create_server((self.host, 0))
        port = opened.getsockname()[1]
        return {"port": port, "multi_tenant": True, "master_listen_fd": opened.detach()}

    def alarm(self, attempt: int) -> None:
        """Tell the others that a process has failed here."""
        if self.store is not None:
            with suppress(RuntimeError):
                self.store.set(f"{attempt}/failed", "")

    def alarmed(self, attempt: int) -> bool:
        """True once a process has failed on any machine, or the first machine no longer answers."""
        if self.store is None:
            return False
        try:
            return self.store.check([f"{attempt}/failed"])
        except RuntimeError:
            return True

    def gather(self, attempt: int, mine: Ended) -> list[Ended | None]:
        """How the processes of each machine have ended, by its rank; None of one that does not answer."""
        everyone: list[Ended | None] = [None] * self.size
        if self.store is not None:
            with suppress(RuntimeError):  # the first has gone, and the store with it
                self.store.set(f"{attempt}/ended/{self.rank}", json.dumps(asdict(mine)))
                self._wait_for(f"{attempt}/ended")
                for rank in range(self.size):
                    if self.store.check([f"{attempt}/ended/{rank}"]):
                        everyone[rank] = Ended(**json.loads(self.store.get(f"{attempt}/ended/{rank}")))
                self.store.set(f"{attempt}/read/{self.rank}", "")
                if self.first and None not in everyone:
                    self._wait_for(f"{attempt}/read")
        everyone[self.rank] = mine
        return everyone

    def _wait_for(self, word: str) -> None:
        """Until each launcher has said it, or one must be gone."""
        wanted = [f"{word}/{rank}" for rank in range(self.size)]
        end = time.monotonic() + ANSWER
        while not self.store.check(wanted) and time.monotonic() < end:
            time.sleep(0.05)

    def _reachable(self) -> bool:
        """Asked by a plain socket: torch's store would log that nobody is there, and wait where no signal is heard."""
        try:
            socket.create_connection((self.host, self.port), timeout=2).close()
            return True
        except OSError:
            return False


def loopback() -> str | None:
    """The name of the interface that no other machine reaches; None where it has none of the usual ones."""
    names = [name for _, name in socket.if_nameindex()] if hasattr(socket, "if_nameindex") else []
    return next((name for name in ("lo", "lo0") if name in names), None)


def _until(true: Callable[[], bool], end: float, otherwise: str) -> None:
    """Wait for it in small steps, between which a signal is heard."""
    while not true():
        if time.monotonic() > end:
            raise FttoolError(otherwise)
        time.sleep(0.2)
