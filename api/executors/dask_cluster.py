"""Connection to a Dask scheduler, and the workers that it has at present."""

from __future__ import annotations

import contextlib
import importlib
import operator
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import structlog
import toolz
from distributed import Client, Future

from api.executors.base import Capacity
from api.executors.dask_messages import FENCE, HUNG, MESSAGE, Unit, is_of_other_versions, resource_names
from api.logs import Seldom
from nngp_prior.versions import PACKAGE, __version__

_LOOK = 1.0  # seconds between two looks at the workers
_ANSWER = 10.0  # seconds within which the scheduler has to answer
_GRACE = 2.0  # seconds after which a worker that is gone has said what it had to say
_MODULE = "api.executors.dask_worker"
_log = structlog.get_logger(__name__)


@dataclass
class _Member:
    """Worker as of the last look."""

    cores: int
    bytes: int
    slots: int
    running: bool
    hung: bool
    last_seen: float  # by the scheduler's clock
    heard: float  # when that changed last, by this process's clock


class Cluster:
    """A connection that is made again whenever it is lost, and the workers of this process's versions.

    Args:
        address: address of the scheduler.
        on_message: called in Dask's thread with a unit's fence, its worker's address and a message; must not block.
        capacity: what is assumed about machines as long as no worker is there.
        silence: seconds after which a worker that sends no heartbeats counts as lost.
    """

    def __init__(
        self, address: str, on_message: Callable[[int, str, str], None], *, capacity: Capacity, silence: float
    ) -> None:
        self._address, self._on_message, self._silence = address, on_message, silence
        self._capacity = capacity
        self._client: Client | None = None
        self._members: dict[str, _Member] = {}
        self._usable: list[_Member] = []
        self._gone: dict[str, float] = {}  # when workers were missed first
        self._others = 0  # workers of other versions
        self._answered = False
        self._trouble = Seldom(60.0)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dask", daemon=True)
        self._thread.start()

    def capacity(self) -> Capacity:
        """Return the resources of the workers at present; none while there is no connection."""
        client = self._client
        if client is None or client.status != "running":
            return replace(self._capacity, slots=0, cores=0, bytes=0)
        return self._capacity

    def problem(self) -> str | None:
        """Return what keeps units from being computed; None if nothing does, or workers are yet to come."""
        if not self._answered:
            return f"The Dask scheduler {self._address} cannot be reached. Accepted jobs wait for it."
        if self._others and not self._members:
            return f"{self._others} workers have other versions than this service ({_OURS}). {_ALIKE}"
        if hung := [address for address, member in self._members.items() if member.hung]:
            return (
                f"A process of the worker {hung[0]} has used no processor time for minutes. Dismiss its job, or end it."
            )
        return None

    def submit(self, key: str, unit: Unit, cores: int) -> Future | None:
        """Give a unit to Dask.

        Args:
            key: name of the unit, never used before.
            unit: the unit; its topic is added.
            cores: cores that it uses.

        Returns:
            Dask's future; None if there is no connection.
        """
        client = self._client
        if client is None or client.status != "running":
            return None
        # The topic of a client's own id is emptied some time after its end; other topics stay in the scheduler forever.
        unit = replace(unit, topic=client.id)
        # Only names and text travel, so that the scheduler need not have this package.
        call = operator.methodcaller("compute", unit.encoded())
        needed = dict(zip(resource_names(), (cores, unit.task.bytes), strict=True))
        try:
            # Again with each unit: a scheduler that was started again has forgotten the subscription.
            client.subscribe_topic(unit.topic, self._on_event)
            return client.submit(
                toolz.pipe, _MODULE, importlib.import_module, call, key=key, pure=False, retries=0, resources=needed
            )
        except (OSError, RuntimeError):  # Dask's errors of a connection that was closed meanwhile
            return None

    def is_too_small(self, cores: int, memory: int) -> bool:
        """True if there are workers and a unit fits on none of them: the one that it was planned for has left.

        Args:
            cores: cores that the unit uses.
            memory: bytes that it takes.

        Returns:
            False while there are no workers: one that is large enough may come.
        """
        usable = self._usable
        return bool(usable) and not any(member.cores >= cores and member.bytes >= memory for member in usable)

    def lost(self, address: str) -> str | None:
        """Return how a worker was lost; None if it is there.

        Args:
            address: address of the worker.
        """
        now, missed = time.monotonic(), self._gone.get(address)
        if missed is not None and now - missed > _GRACE:
            return f"the worker {address} was lost"
        member = self._members.get(address)
        if member is not None and self._answered and now - member.heard > self._silence:
            self._remove(address)
            return f"the worker {address} gave no sign of life for {self._silence:.0f} s"
        return None

    def close(self) -> None:
        """End the connection; Dask then releases all units."""
        self._closing.set()
        self._disconnect()

    def _watch(self) -> None:
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                workers = _ask(self._connected(), "identity", n_workers=-1)["workers"]
            except Exception as error:  # of many kinds, by the moment at which the scheduler ends
                self._answered = False
                if self._trouble.due() and not self._closing.is_set():
                    _log.warning("the Dask scheduler cannot be reached", address=self._address, error=str(error))
            else:
                self._look_at(workers)
            self._closing.wait(max(_LOOK - (time.monotonic() - began), 0.1))

    def _connected(self) -> Client:
        """Return the client, connected anew if it has given up."""
        if self._client is None or self._client.status == "closed":
            self._disconnect()
            client = Client(
                self._address, name=PACKAGE, timeout=_ANSWER / 2, set_as_default=False, direct_to_workers=False
            )
            self._client = client
            if self._closing.is_set():
                self._disconnect()
            _log.info("connected to the Dask scheduler", address=self._address)
        if self._client is None or self._client.status != "running":
            raise OSError("the connection was lost")
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # the scheduler may have ended
                client.close(timeout=2)

    def _look_at(self, workers: dict[str, dict[str, Any]]) -> None:
        now = time.monotonic()
        cores, memory = resource_names()
        members: dict[str, _Member] = {}
        for address, found in workers.items():
            if cores not in found["resources"]:
                continue
            before = self._members.get(address)
            changed = before is None or before.last_seen != found["last_seen"]
            members[address] = _Member(
                cores=int(found["resources"][cores]),
                bytes=int(found["resources"][memory]),
                slots=found["nthreads"],
                running=found["status"] == "running",
                hung=bool(found["metrics"].get(HUNG)),
                last_seen=found["last_seen"],
                heard=now if changed or before is None or not self._answered else before.heard,
            )
        self._gone = {address: at for address, at in self._gone.items() if address not in members and at > now - 3600}
        self._gone |= {
            address: now for address in self._members if address not in members and address not in self._gone
        }
        if (others := sum(is_of_other_versions(found["resources"]) for found in workers.values())) > self._others:
            _log.warning("workers have other versions and get no work", workers=others, service=_OURS, remedy=_ALIKE)
        self._others = others
        self._members, self._answered = members, True
        self._usable = usable = [
            member
            for member in members.values()
            if member.running and member.cores > 0 and now - member.heard < self._silence
        ]
        self._capacity = Capacity(
            slots=sum(member.slots for member in usable),
            cores=sum(member.cores for member in usable),
            bytes=sum(member.bytes for member in usable),
            task_cores=min((member.cores for member in usable), default=self._capacity.task_cores),
            task_bytes=max((member.bytes for member in usable), default=self._capacity.task_bytes),
            may_grow=True,
        )

    def _remove(self, address: str) -> None:
        """Have the scheduler forget a worker that hangs; it would get further units."""
        client = self._client
        with contextlib.suppress(Exception):
            if client is not None:
                _ask(client, "unregister", address=address, stimulus_id=f"{PACKAGE}-silent-{time.time()}")

    def _on_event(self, event: tuple[float, Any]) -> None:
        match event[1]:
            case {"worker": str(worker), **message} if FENCE in message:
                self._on_message(message[FENCE], worker, message[MESSAGE])


def _ask(client: Client, operation: str, **arguments: Any) -> Any:
    """Return the scheduler's answer to a request."""
    return client.sync(getattr(client.scheduler, operation), callback_timeout=_ANSWER, **arguments)


_OURS = f"{PACKAGE} {__version__}"
_ALIKE = "Install the same packages there, as from one lock file."
