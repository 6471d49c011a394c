"""The suites of senders who go on, as data: worlds, starts, players, and how many campaigns each has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sto_decisions import cold, loop
from sto_decisions.loop import Options
from sto_decisions.players import COLD, LOOP, Player
from sto_decisions.records import Cell, Record


@dataclass(frozen=True)
class Suite:
    """What is run unless the command says otherwise; `starts` are the histories of its cells."""

    run: Callable[[Cell, Options, str, Player | None], list[Record]]
    players: Mapping[str, Player | None]
    worlds: tuple[str, ...]
    starts: tuple[str, ...]
    options: Options
    seeds: tuple[int, ...]
    users: int


LIVING = {
    "loop": Suite(
        loop.run_player, LOOP, loop.WORLDS, ("few",), Options(loop.CAMPAIGNS, loop.HISTORY_DAYS), (0,), 3_000
    ),
    "cold": Suite(
        *(cold.run_player, COLD, cold.WORLDS, tuple(cold.STARTS), Options(cold.CAMPAIGNS, cold.HISTORY_DAYS)),
        seeds=(0,),
        users=3_000,
    ),
}
PLAYERS = tuple(dict.fromkeys(name for suite in LIVING.values() for name in suite.players))
