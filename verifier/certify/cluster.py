"""A Ray cluster: tasks as Ray tasks, which Ray does again where it loses a worker.

The configuration, what it names and the folder of results lie at the same paths on all machines of
the cluster, as on a file system that they share.  A task's message is its digest; its result
appears in the store.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from specs.errors import FarkasError, InputError, MissingExtraError
from verifier.certify.workbench import ATTEMPTS, Workbench, alone

LOCAL = "local"
"""The address that starts a cluster on this machine."""

AHEAD = 4
"""Tasks for each CPU of the cluster that wait in it."""

STARTS = 3
"""Times that a cluster is started on this machine before that is given up."""

SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Ray's settings that hold unless the environment says otherwise: a task that takes no GPU still
sees them, and no usage statistics are sent."""

STORE = 100_000_000
"""Bytes for the shared objects of a cluster that is started: tasks pass digests alone."""


def join(address: str, processors: int | None = None) -> bool:
    """Join a cluster, unless this process belongs to one already; whether it did not.

    Args:
        address: of the cluster; ``"local"`` starts one, which ends with ``ray.shutdown()``.
        processors: of one that is started; ``None``: all of this machine's.

    Raises:
        InputError: there is no such cluster.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return False
    given: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        path = os.pathsep.join(filter(None, sys.path))
        given |= {"num_cpus": processors, "include_dashboard": False}
        given |= {"object_store_memory": STORE}
        given["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
    # Ray waits 30 seconds for the processes that it has started, which a busy machine outlasts.
    for left in reversed(range(STARTS if address == LOCAL else 1)):
        try:
            ray.init(address=address, **given)
            break
        except Exception as error:  # Ray raises of all kinds, Exception itself among them
            ray.shutdown()
            if not left:
                raise InputError(f"--ray {address}: {error}") from error
    return True


class Cluster:
    """A Ray cluster.

    Args:
        config: the file of the configuration.
        out: the folder of results.
        address: of the cluster; ``"local"`` starts one, which ends with :meth:`close`.
        processors: of one that is started; ``None``: all of this machine's.
        gpus: that each task takes, or a part of one.

    The cluster is started or joined when there is work for it.  A process that belongs to a
    cluster already stays in that one.

    Raises:
        MissingExtraError: Ray is not installed.
        InputError: a count of processors for a cluster that is not started here.
    """

    def __init__(
        self,
        config: Path,
        out: Path,
        address: str,
        processors: int | None = None,
        gpus: float | None = None,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError('--ray needs Ray: pip install ".[ray]"')
        if processors is not None and address != LOCAL:
            raise InputError("--processes with --ray goes with --ray local")
        self._leave = False
        self._address, self._processors, self._gpus = address, processors, gpus or 0
        self._arguments = (str(config.resolve()), str(out.resolve()))

    def _joined(self) -> Any:
        """Ray, in the cluster.

        Raises:
            InputError: there is no such cluster, or no such GPUs in it.
        """
        self._leave |= join(self._address, self._processors)
        import ray

        there = ray.cluster_resources().get("GPU", 0)
        if self._gpus > there:
            raise InputError(f"--gpus {self._gpus:g}: the cluster has {there:g}")
        return ray

    def run(self, digests: Iterable[str]) -> Iterator[str]:
        """See :class:`verifier.certify.workbench.Crew`."""
        ray = self._joined()
        window = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        do = ray.remote(max_retries=ATTEMPTS - 1, num_cpus=1, num_gpus=self._gpus)(_do)
        left = iter(digests)
        running = {do.remote(*self._arguments, each): each for each in islice(left, window)}
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            digest = running.pop(ready)
            try:
                fault = ray.get(ready)
            except ray.exceptions.RayError as error:
                raise FarkasError(
                    f"a task ended its Ray worker {ATTEMPTS} times, or Ray gave it up: {error}"
                ) from None
            if fault is not None:
                kind, message = fault
                raise (InputError if kind == "input" else FarkasError)(message)
            yield digest
            for each in islice(left, 1):
                running[do.remote(*self._arguments, each)] = each

    def close(self) -> None:
        """Leave the cluster if it was joined here; one that was started here ends."""
        if self._leave:
            import ray

            ray.shutdown()


def _do(config: str, out: str, digest: str) -> tuple[str, str] | None:
    """One task in a worker; a fault is its kind and its message."""
    try:
        _bench(config, out).do(digest)
    except InputError as error:
        return "input", str(error)
    except FarkasError as error:
        return "ours", str(error)
    return None


@lru_cache(maxsize=1)
def _bench(config: str, out: str) -> Workbench:
    alone(1)
    return Workbench(Path(config), Path(out))
