# SPDX-License-Identifier: GPL-3.0-or-later
"""Execution of the runs of a sweep: sequentially in this process, in parallel with joblib, or on a dask cluster."""

import importlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Self

from crossmargin_bt import __version__
from crossmargin_bt.errors import ConfigurationError
from crossmargin_bt.sweep.plan import RunTask, SharedInputs
from crossmargin_bt.sweep.rows import SweepRow
from crossmargin_bt.sweep.worker import failed_row, run_task

PRE_DISPATCH = 64
"""Runs submitted ahead of time. If a worker dies, any of these may have been the one it was running."""
CONNECT_SECONDS = 20


class Executor(AbstractContextManager["Executor"]):
    """Runs tasks and yields their rows as they finish.

    `jobs` is the number of processes: 1 runs in this process, -1 uses every core. `dask` is the address of a scheduler,
    or "local" for a cluster of `jobs` processes on this machine.

    Raises:
        ConfigurationError: a required package is not installed, or no scheduler answers.
    """

    def __init__(self, jobs: int = -1, dask: str | None = None) -> None:
        self._jobs, self._dask = jobs, dask
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self._dask is not None:
            self._connect(self._dask)
        elif self._jobs != 1:
            _require_module("joblib", "sweep")
            threading.excepthook = _ignore_executor_manager_errors
            self._open.callback(setattr, threading, "excepthook", threading.__excepthook__)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._dask is None and self._jobs != 1:
            from joblib.externals.loky import get_reusable_executor  # noqa: PLC0415 - an extra

            get_reusable_executor().shutdown(wait=True, kill_workers=True)
        self._open.close()

    def run(self, tasks: Sequence[RunTask], shared: SharedInputs) -> Iterator[SweepRow]:
        """Yield the rows of tasks in the order in which they finish.

        If a worker dies, the runs that may have been in progress are repeated one at a time; a run that kills its worker
        again becomes a row with that error.
        """
        if self._dask is None and self._jobs == 1:
            for task in tasks:
                yield run_task(task, shared)
            return
        left = {task.key: task for task in tasks}
        while left:
            try:
                for row in self._parallel([*left.values()], shared):
                    if left.pop(row.key, None) is not None:
                        yield row
            except _worker_death_errors():
                for task in [*left.values()][:PRE_DISPATCH]:
                    yield self._run_in_isolation(task, shared)
                    del left[task.key]

    def _run_in_isolation(self, task: RunTask, shared: SharedInputs) -> SweepRow:
        try:
            return next(self._parallel([task], shared))
        except _worker_death_errors() as death:
            return failed_row(task, f"its process died ({type(death).__name__}); is there enough memory?")

    def _parallel(self, tasks: Sequence[RunTask], shared: SharedInputs) -> Iterator[SweepRow]:
        from joblib import Parallel, delayed, parallel_config  # noqa: PLC0415 - an extra

        # joblib runs a single job in this process, which a crashing run must not take down.
        jobs = self._jobs if self._jobs != 1 else 2
        with parallel_config(backend="loky" if self._dask is None else "dask", n_jobs=jobs):
            # One run per batch: run times differ, and unfinished runs are lost when a worker dies.
            parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=PRE_DISPATCH)
            with _children_ignore_interrupts():
                rows = parallel(delayed(run_task)(task, shared) for task in tasks)
        yield from rows

    def _connect(self, address: str) -> None:
        """Start or connect to the cluster and check that its workers have this version."""
        distributed = _require_module("distributed", "sweep")
        _require_module("joblib", "sweep")
        try:
            if address == "local":
                workers = None if self._jobs < 0 else self._jobs
                with _children_ignore_interrupts():
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
        self._jobs = -1  # all workers of the cluster
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise ConfigurationError(
                f"the dask scheduler at {address} has no workers; start some with `dask worker {address} --nthreads 1`"
            ) from error
        for worker, version in client.run(_version).items():
            if version != __version__:
                raise ConfigurationError(
                    f"worker {worker} has crossmargin_bt {version}, this process has {__version__}"
                )


@contextmanager
def _children_ignore_interrupts() -> Iterator[None]:
    """Make processes started in this context ignore SIGINT (Ctrl-C), which the main process handles."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _ignore_executor_manager_errors(raised: threading.ExceptHookArgs) -> None:
    """Report exceptions in threads, except those of loky's manager after its workers were terminated."""
    if raised.thread is None or raised.thread.name != "ExecutorManagerThread":
        threading.__excepthook__(raised)


def _version() -> str:
    return __version__


def _worker_death_errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions that joblib and dask raise if a worker dies."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError  # noqa: PLC0415 - an extra

    try:
        from distributed import KilledWorker  # noqa: PLC0415 - an extra
    except ImportError:
        return (TerminatedWorkerError,)
    return (TerminatedWorkerError, KilledWorker)


def _require_module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(
            f"this requires {name}; install it with: pip install 'crossmargin-bt[{extra}]'"
        ) from error
