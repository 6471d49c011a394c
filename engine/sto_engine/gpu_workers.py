"""The long-lived workers of a cluster that have a GPU each; without Ray, whose actors they are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class GpuWorker:
    """An actor, what tells that it has begun, and how many tries it has."""

    actor: Any
    begun: Any
    busy: int = 0


@dataclass
class GpuWorkers:
    """At most `count` of them, which `start` starts when they are first asked for, and anew when they are lost."""

    ray: Any
    count: int
    start: Callable[[], Any]
    _all: list[GpuWorker] = field(default_factory=list)

    def least_busy(self) -> GpuWorker:
        """One that has begun, while there is one: that of a lost GPU waits until another joins."""
        while len(self._all) < self.count:
            actor = self.start()
            self._all.append(GpuWorker(actor, actor.begun.remote()))
        begun = [worker for worker in self._all if self.ray.wait([worker.begun], timeout=0)[0]]
        return min(begun or self._all, key=lambda worker: worker.busy)

    def lose(self, worker: GpuWorker) -> None:
        """Several tries may be lost with one worker."""
        if worker in self._all:
            self._all.remove(worker)

    def end(self) -> None:
        while self._all:
            self.ray.kill(self._all.pop().actor)
