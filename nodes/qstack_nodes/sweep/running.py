"""Where points run: here, on all cores of this machine, or on a dask cluster."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from qstack.drivers.live import Unreachable
from qstack.errors import ConfigError
from qstack_nodes.sweep.plan import Task
from qstack_nodes.sweep.point import run_point

CONNECT_S = 3
"""How long a dask scheduler may take to answer, in wall seconds."""

_AHEAD = 4
"""So many points for each worker are handed out at a time: a long sweep fits into memory."""


def run_here(tasks: Iterable[Task]) -> Iterator[dict[str, Any]]:
    """Run points one after the other in this process."""
    return map(run_point, tasks)


def run_on(executor: Executor, workers: int, tasks: Iterable[Task]) -> Iterator[dict[str, Any]]:
    """Run points on an executor; yield their results as they come."""
    waiting = iter(tasks)
    under_way: set[Future[dict[str, Any]]] = set()
    while True:
        for task in waiting:
            under_way.add(executor.submit(run_point, task))
            if len(under_way) >= _AHEAD * workers:
                break
        if not under_way:
            return
        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


@contextmanager
def cores(workers: int | None) -> Iterator[tuple[Executor, int]]:
    """Processes on this machine, one for each core; none outlives the block.

    Their interpreters are fresh ones: a fork would copy threads and locks in any state.
    """
    count = workers or len(_usable_cores())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_end_with_parent)
    before = set(multiprocessing.active_children())
    finished = False
    try:
        yield pool, count
        finished = True
    finally:
        if not finished:
            # An interrupted sweep waits for nothing: what is not written yet runs again later.
            pool.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - before:
                child.kill()
        pool.shutdown(cancel_futures=True)


def _usable_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _end_with_parent() -> None:
    """Leave no worker behind whose sweep was killed."""
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, int]]:
    """The workers of a running dask cluster, which need qstack in the same version.

    ConfigError where dask is not installed or the address is none, Unreachable without an answer.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
        addressing: Any = importlib.import_module("distributed.comm")
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed: pip install 'qstack[sweep]'"
        raise ConfigError([f"--scheduler: {reason}"]) from None
    try:
        addressing.get_address_host_port(address)
    except ValueError as error:
        raise ConfigError([f"--scheduler: {address!r} is no address: {error}"]) from None
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except OSError as error:
        raise Unreachable(
            f"no dask scheduler answers at {address}: start one (dask scheduler), or leave out "
            "--scheduler to use this machine"
        ) from error
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise Unreachable(f"the dask scheduler at {address} has no workers: start one")
        with client.get_executor() as executor:
            yield executor, threads
