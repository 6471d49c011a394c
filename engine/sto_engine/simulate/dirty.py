"""World `dirty`: lookers behind a record full of defects: dead addresses, machines, wrong profiles, rows gone astray.

Dead addresses never react. Prefetching clients and link scanners react to mail at any hour, beside their owners, who
go on reading. The zone of some profiles is not where their owner lives; devices show the true one. How machines act
and rows go astray is in `acts.py`. The truth counts what people open.
"""

import numpy as np

from sto_engine.simulate.attention import Attention, draw_appeal
from sto_engine.simulate.habits import draw_rates
from sto_engine.simulate.looks import Looks
from sto_engine.simulate.people import ZONE_SHARES, People
from sto_engine.simulate.scene import Defects, Period, Residence, Scene

DEAD, PREFETCH, SCANNER, WRONG_ZONE = 0.12, 0.18, 0.04, 0.08
_OFFICE_SCANNER = 0.3


def draw(rng: np.random.Generator, people: People, period: Period) -> Scene:
    """Lookers and what is wrong with the record of each; a scanner guards many an office."""
    users = len(people)
    is_dead_U = rng.random(users) < DEAD
    is_scanned_U = rng.random(users) < np.where(people.b2b_U, _OFFICE_SCANNER, SCANNER)
    is_fetched_U = (rng.random(users) < PREFETCH) & ~is_scanned_U
    appeal_U = np.where(is_dead_U, 0.0, draw_appeal(rng, users))
    defects = Defects(is_dead_U, is_fetched_U & ~is_dead_U, is_scanned_U & ~is_dead_U, np.ones(users, np.bool_))
    is_wrong_U = rng.random(users) < WRONG_ZONE
    away_U = rng.choice(len(ZONE_SHARES), users, p=ZONE_SHARES)
    away_U = np.where(away_U == people.zone_U, (away_U + 1) % len(ZONE_SHARES), away_U)
    zone_U, never = np.where(is_wrong_U, away_U, people.zone_U), np.zeros(users, np.int64)
    return Scene(Attention(Looks(draw_rates(rng, people), appeal_U)), Residence(zone_U, zone_U, never, never), defects)
