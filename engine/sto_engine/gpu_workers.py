"""The long-lived workers of a cluster that have a GPU each; without Ray, whose actors they are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sto_engine.tries import Try


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
        return min(self._begun() or self._all, key=lambda worker: worker.busy)

    def _begun(self) -> list[GpuWorker]:
        return [worker for worker in self._all if self.ray.wait([worker.begun], timeout=0)[0]]

    def stuck(self, waiting: dict[Any, Try]) -> list[Try]:
        """Tries that wait for a GPU which does not come though others are there; they are taken from `waiting`."""
        begun = self._begun()
        refs = [ref for ref, one in waiting.items() if begun and one.place not in begun and one.place in self._all]
        for ref in refs:
            waiting[ref].place.busy -= 1
            self.ray.cancel(ref)
        return [waiting.pop(ref) for ref in refs]

    def lose(self, worker: GpuWorker) -> None:
        """Several tries may be lost with one worker."""
        if worker in self._all:
            self._all.remove(worker)

    def end(self) -> None:
        while self._all:
            self.ray.kill(self._all.pop().actor)
