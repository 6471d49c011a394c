"""Cold start: how fast a player gets to know people of whom there is no history.

`newcomers`: half of the recipients sign up on the first day, the others have 60 days of history; judged are the new.
`new_account`: nobody has a history. Campaigns come every other day from a Tuesday on, so that those after which a
figure is shown are of weekdays alike.
"""

from datetime import date

import numpy as np

from sto_decisions.loop import Options, play
from sto_decisions.players import Player
from sto_decisions.records import Cell, Record
from sto_engine.simulate.living import LivingWorld

WORLDS = ("attention", "send_hour")
STARTS = {"newcomers": 0.5, "new_account": 1.0}
CAMPAIGNS, HISTORY_DAYS, PER_DAY = 11, 60, 0.5
TUESDAY = date(2026, 4, 21)


def run_player(cell: Cell, options: Options, name: str, player: Player | None) -> list[Record]:
    """The record of one player in a world, from the start named by the cell's history."""
    living = LivingWorld(
        *(cell.world, cell.users, cell.seed, options.history_days, options.campaigns, PER_DAY),
        joining=STARTS[cell.history],
        end=TUESDAY,
    )
    judged = living.users.filter("eligible")["joins"].to_numpy()
    return [play(cell, options, living, name, player, np.asarray(judged, np.bool_))]
