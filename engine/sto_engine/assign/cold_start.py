"""Recipients of whom little is known: an even draw of slots for those who explore, office hours for new offices.

    burst     fewer mails in the history than `cold_start.burst_campaigns` (acts count where no mail is recorded): a
              part `burst_share` of his mail is drawn among his allowed slots, in office hours where he is an office
    epsilon   anyone else: that part of his mail is drawn among his allowed slots
    office    b2b, without a mail and an act: the model's slot is looked for in office hours

Draws are part of what the model arm does, and made anew for every user, date, campaign and seed:

    P(slot | model arm) = (1 - share) P(slot by the model) + share [slot is in the draw] / slots in the draw

That is what sets them apart from `experiment.random_share` and `explore_share`: an arm keeps its people, so that most
never explore and the arms can be compared; by epsilon everyone explores now and then, and its cost is the model arm's.
A mail counts once the store has its event: who is mailed faster than events come in explores longer.

Hours outside the allowed slots do not count; where that leaves none, all allowed slots do. Machines and dead addresses
teach nothing, and who does not consent to profiling has no history by design: they explore nothing. U users, S slots.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sto_engine.assign.arms import random_slots
from sto_engine.config_policies import ColdStart
from sto_engine.errors import ConfigError
from sto_engine.history.bucket import Bucket
from sto_engine.slots import SlotGrid, hours_mask
from sto_kernels.hashing import derive, unit_interval

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Newness:
    """What a history tells of its users: who teaches (may explore), who is new by `burst_campaigns`, who is b2b, and
    who of these is an office without any history; bool [U]."""

    teaches_U: Mask
    new_U: Mask
    b2b_U: Mask
    office_U: Mask

    def of(self, rows_U: Mask) -> "Newness":
        return Newness(*(x_U[rows_U] for x_U in (self.teaches_U, self.new_U, self.b2b_U, self.office_U)))


@dataclass(frozen=True)
class Draw:
    """Slots drawn in the model arm: each user's chance of a draw, its slots, and tonight's coin and slot.

    share_U float64, target_US bool, drawn_U bool (never outside the model arm), slot_U uint8, read where drawn; new_U:
    who has a burst.
    """

    new_U: Mask

    share_U: NDArray[np.float64]
    target_US: Mask
    drawn_U: Mask
    slot_U: NDArray[np.uint8]

    def counts(self) -> dict[str, int]:
        """How many are new, and how many explore for that or by epsilon."""
        burst = int((self.new_U & self.drawn_U).sum())
        return {"new": int(self.new_U.sum()), "burst": burst, "epsilon": int(self.drawn_U.sum()) - burst}


def newness(bucket: Bucket, settings: ColdStart) -> Newness:
    """Counted from the cleaned history of the bucket's users."""
    users, cleaned = bucket.users, bucket.cleaned
    sends_U, acts_U = (np.bincount(of, minlength=len(users)) for of in (cleaned.user_S, cleaned.user_A))
    profiled_U = users["consent_profiling"].fill_null(True).to_numpy()
    known_U = np.where(sends_U > 0, sends_U, acts_U)
    b2b_U = users["b2b"].fill_null(False).to_numpy() & bool(settings.b2b_hours)
    return Newness(
        teaches_U=profiled_U & ~bucket.bad_U,
        new_U=known_U < settings.burst_campaigns,
        b2b_U=b2b_U,
        office_U=b2b_U & profiled_U & (known_U == 0),
    )


def office_hours(settings: ColdStart, grid: SlotGrid) -> Mask:
    """Slots in office hours, Monday to Friday where the grid has days, bool [S]; all without `b2b_hours`.

    Raises ConfigError (78) for hours that are none, or hold no whole slot.
    """
    if not settings.b2b_hours:
        return np.ones(grid.slots, np.bool_)
    inside_S = hours_mask(grid, settings.b2b_hours)
    if grid.days > 1:
        inside_S = inside_S & (np.arange(grid.slots) * grid.days // grid.slots < 5)
    if not inside_S.any():
        raise ConfigError(
            f"cold_start.b2b_hours must hold at least one whole slot of {grid.minutes} minutes; found "
            f'"{settings.b2b_hours}"; widen it, or set it to "" for all hours'
        )
    return inside_S


def within(allowed_US: Mask, office_U: Mask, hours_S: Mask) -> Mask:
    """Allowed slots; of the users `office_U` those in the hours, where there are any, bool [U, S]."""
    if not office_U.any():
        return allowed_US
    inside_US = allowed_US & hours_S
    return np.asarray(np.where((office_U & inside_US.any(axis=1))[:, None], inside_US, allowed_US))


def draw(
    settings: ColdStart,
    hours_S: Mask,
    known: Newness,
    allowed_US: Mask,
    may_U: Mask,
    key: tuple[NDArray[np.uint64], int, str],
) -> Draw | None:
    """Tonight's draws of the users; only those of `may_U`, the model arm, come true. `key`: h [U], seed, occasion.

    None where the settings ask for none.
    """
    if not (settings.burst_campaigns and settings.burst_share) and not settings.epsilon:
        return None
    h_U, seed, occasion = key
    new_U = known.new_U & known.teaches_U
    share_U = np.where(new_U, settings.burst_share, settings.epsilon) * known.teaches_U
    target_US = within(allowed_US, new_U & known.b2b_U, hours_S)
    coin_U = unit_interval(derive(h_U, f"cold-start:{occasion}", seed))
    slot_U = random_slots(h_U, target_US, seed, occasion, tag="cold-start-slot")
    return Draw(new_U, share_U, target_US, may_U & (coin_U < share_U), slot_U)


def mixed(
    share_U: NDArray[np.float64],
    target_US: Mask,
    slot_U: NDArray[np.uint8],
    chance_U: NDArray[np.floating[Any]] | Mask,
) -> NDArray[np.float64]:
    """P(slot_U) in the model arm, where the model without draws takes it with `chance_U`, float64 [U]."""
    n_U = np.maximum(target_US.sum(axis=1), 1)
    even_U = target_US[np.arange(len(slot_U)), slot_U] / n_U
    return np.asarray((1 - share_U) * chance_U + share_U * even_U)
