# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the runs of a sweep happen: here one after the other, on all cores with joblib, or on a dask cluster."""

import importlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Self

from crossmargin_bt import __version__
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.sweep.plan import Shared, Task
from crossmargin_bt.sweep.rows import Row
from crossmargin_bt.sweep.worker import execute, failed

SUSPECTS = 64
"""How many runs are handed out at a time, any of which may have been under way when a worker died."""
CONNECT_SECONDS = 20


class Engine(AbstractContextManager["Engine"]):
    """Runs tasks and yields their rows as they come. `jobs`: processes; 1 stays in this one, -1 takes every core.

    `dask` is the address of a scheduler, or "local" for a cluster of `jobs` processes on this machine.

    Raises:
        ConfigurationError: what is needed is not installed, or no scheduler answers.
    """

    def __init__(self, jobs: int = -1, dask: str | None = None) -> None:
        self._jobs, self._dask = jobs, dask
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._dask is not None:
            self._connect(self._dask)
        elif self._jobs != 1:
            _imported("joblib", "sweep")
            threading.excepthook = _but_for_the_manager
            self._open.callback(setattr, threading, "excepthook", threading.__excepthook__)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._dask is None and self._jobs != 1:
            from joblib.externals.loky import get_reusable_executor  # noqa: PLC0415 - an extra

            get_reusable_executor().shutdown(wait=True, kill_workers=True)
        self._open.close()

    def run(self, tasks: Sequence[Task], shared: Shared) -> Iterator[Row]:
        """Yield the rows of tasks in the order in which they finish.

        When a worker dies, the runs that were under way are run again one by one; one that kills its worker is a row with that error.
        """
        if self._dask is None and self._jobs == 1:
            for task in tasks:
                yield execute(task, shared)
            return
        left = {task.key: task for task in tasks}
        while left:
            try:
                for row in self._parallel([*left.values()], shared):
                    if left.pop(row.key, None) is not None:
                        yield row
            except _deaths():
                for task in [*left.values()][:SUSPECTS]:
                    yield self._alone(task, shared)
                    del left[task.key]

    def _alone(self, task: Task, shared: Shared) -> Row:
        try:
            return next(self._parallel([task], shared))
        except _deaths() as death:
            return failed(task, f"its process died ({type(death).__name__}); is there enough memory?")

    def _parallel(self, tasks: Sequence[Task], shared: Shared) -> Iterator[Row]:
        from joblib import Parallel, delayed, parallel_config  # noqa: PLC0415 - an extra

        # One job would be this process, which a run must not take with it.
        jobs = self._jobs if self._jobs != 1 else 2
        with parallel_config(backend="loky" if self._dask is None else "dask", n_jobs=jobs):
            # A worker takes a run at a time: they differ in length, and what is unfinished is lost when it dies.
            parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=SUSPECTS)
            with _deaf_children():
                rows = parallel(delayed(execute)(task, shared) for task in tasks)
        yield from rows

    def _connect(self, address: str) -> None:
        """Bring up or reach the cluster; its workers must have this version."""
        distributed = _imported("distributed", "sweep")
        _imported("joblib", "sweep")
        try:
            if address == "local":
                workers = None if self._jobs < 0 else self._jobs
                with _deaf_children():
                    cluster = distributed.LocalCluster(
                        n_workers=workers,
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address="127.0.0.1:0",
                        silence_logs="CRITICAL",
                    )
                self._open.enter_context(cluster)
                client = distributed.Client(cluster)
            else:
                client = distributed.Client(address, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"no dask scheduler answers at {address} ({error}); start one with `dask scheduler`, or use --dask local"
            ) from error
        self._open.enter_context(client)
        self._jobs = -1  # all workers there are
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise ConfigurationError(
                f"the dask scheduler at {address} has no workers; start some with `dask worker {address} --nthreads 1`"
            ) from error
        for worker, version in client.run(_version).items():
            if version != __version__:
                raise ConfigurationError(f"worker {worker} has crossmargin_bt {version}, here it is {__version__}")


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes that are started meanwhile ignore Ctrl-C, which is for this one to act on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _but_for_the_manager(happened: threading.ExceptHookArgs) -> None:
    """Tell what happened in a thread, but not that loky's manager misses workers that were ended with the sweep."""
    if happened.thread is None or happened.thread.name != "ExecutorManagerThread":
        threading.__excepthook__(happened)


def _version() -> str:
    return __version__


def _deaths() -> tuple[type[BaseException], ...]:
    """Return how it shows that a worker is gone."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError  # noqa: PLC0415 - an extra

    try:
        from distributed import KilledWorker  # noqa: PLC0415 - an extra
    except ImportError:
        return (TerminatedWorkerError,)
    return (TerminatedWorkerError, KilledWorker)


def _imported(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"this needs {name}; install it with: pip install 'crossmargin-bt[{extra}]'"
        ) from error
