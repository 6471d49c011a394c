"""Our own implementations as contestants; the one place that knows how `sto_kernels.margins` is called."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sto_bench.contest import Choice, Contestant, Missing, Scorer
from sto_bench.verify import Oracle, check_choice, check_margins, check_runner_up
from sto_bench.worlds import World
from sto_kernels import gather_torch, margins

# users that the pure Python twin can be asked for within a second or two
NAIVE_USERS = 2


@dataclass(frozen=True)
class _Inputs:
    """Arguments of the kernel for some users; tensors on the device for a GPU, arrays otherwise."""

    user_FU: Any
    cross_CSU: Any
    base_SU: Any


class OurScorer(Scorer):
    """`best_slots` of one implementation."""

    def __init__(self, world: World, impl: str, threads: int) -> None:
        if impl.endswith("-gpu") and not torch.cuda.is_available():
            raise Missing("no CUDA device")
        self._world, self._impl, self._threads = world, impl, threads
        self._inputs = self.inputs(slice(0, 0))
        if impl == "bitslice":
            self.note = margins.choose_impl(world.forest, torch.device("cpu"), "auto").impl
        torch.set_num_threads(threads)  # the gathers of "gather" have no argument for it

    def inputs(self, user_U: NDArray[np.int64] | slice) -> _Inputs:
        """The inputs of some users, contiguous, on the device that the implementation runs on."""
        world = self._world
        return _Inputs(*(self._placed(a, user_U) for a in (world.user_FU, world.cross_CSU, world.base_SU)))

    def _placed(self, values: NDArray[np.float32] | None, user_U: NDArray[np.int64] | slice) -> Any:
        if values is None:
            return None
        part = np.ascontiguousarray(values[..., user_U])
        return torch.from_numpy(part).cuda() if self._impl.endswith("-gpu") else part

    def load(self, users: int) -> None:
        self._inputs = self.inputs(slice(0, users))

    def score(self) -> Choice:
        """Results come to the host, which also waits for a GPU to be done."""
        return self.best(self._inputs)[0]

    def best(self, inputs: _Inputs) -> tuple[Choice, NDArray[Any]]:
        """The choice and the runner-up."""
        slot, margin, runner = _call(margins.best_slots, self._world, inputs, self._impl, self._threads)
        return Choice(slot.cpu().numpy(), margin.cpu().numpy()), runner.cpu().numpy()

    def margins(self, inputs: _Inputs) -> NDArray[Any]:
        found: NDArray[Any] = _call(margins.slot_margins, self._world, inputs, self._impl, self._threads).cpu().numpy()
        return found


def _call(function: Any, world: World, inputs: _Inputs, impl: str, threads: int) -> Any:
    """Call the facade; a code path that this CPU lacks is Missing."""
    try:
        return function(world.forest, inputs.user_FU, inputs.cross_CSU, inputs.base_SU, impl=impl, threads=threads)
    except margins.ImplUnavailable as error:
        raise Missing(str(error)) from error


def our_contestant(world: World, oracle: Oracle, impl: str, threads: int, is_ours: bool = True) -> Contestant:
    """An implementation with its gate: margins, best slot and runner-up of the sampled users are XGBoost's."""

    def gate() -> None:
        part = oracle.before(NAIVE_USERS) if impl == "naive" else oracle
        scorer = OurScorer(world, impl, threads)
        inputs = scorer.inputs(part.user_N)
        check_margins(part, scorer.margins(inputs))
        choice, runner_U = scorer.best(inputs)
        check_choice(Oracle(np.arange(len(part.user_N)), part.margin_NS, part.scale), choice, len(part.user_N))
        check_runner_up(part, choice, runner_U)

    return Contestant(
        impl,
        is_ours,
        prepare=partial(OurScorer, world, impl, threads),
        gate=gate,
        check=partial(check_choice, oracle),
        first_users=NAIVE_USERS if impl == "naive" else 64,
        # each gather goes over a whole block of users: with fewer it is all overhead
        least_users={"naive": NAIVE_USERS, "gather": gather_torch.BLOCK_USERS}.get(impl, 64),
    )
