"""Which tests run, and in which order.

`pytest` alone leaves out those marked `full`; files, folders and marks that are named are run as named. What starts
several processes comes first, in one worker, while the others do the rest; then the files with long ones, so that what
is left at the end is short and no worker waits for another.
"""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session", autouse=True)
def state_of_its_own() -> Iterator[None]:
    """What a run keeps for its user, a key above all, is kept out of the home of whoever tests."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_from_outside() -> Iterator[None]:
    """A test that wants a width or unbuffered output says so: pytest's workers have `COLUMNS`, many containers both."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("COLUMNS", "PYTHONUNBUFFERED"):
            patched.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def hangups_are_heard() -> Iterator[None]:
    """By the runs that tests start, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def pytest_configure(config: pytest.Config) -> None:
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    if not named and not config.option.markexpr:
        config.option.markexpr = "not full"  # the workers of xdist are told
    if config.getoption("numprocesses", None):
        # A thread each: workers with as many threads as there are cores wait for one another, ten times as long.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Whole files, so that what the tests of one share is made once in each worker.
    long = {item.path for item in items if item.get_closest_marker("full")}
    items.sort(key=lambda item: (item.get_closest_marker("dist") is None, item.path not in long))


def pytest_collection_finish() -> None:
    """What the tests import stays: garbage is collected in each training run, which would go through all of it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The tests of sharding in one worker, in their order: many of them look at runs that were made for all."""
    from xdist.scheduler import LoadScopeScheduling

    class ShardingTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "sharding" if nodeid.startswith("tests/sharding/") else nodeid

    config.option.loadscopereorder = False
    return ShardingTogether(config, log)
