"""How long spread windows are: as long as the rates ask for, within the limits of `[spread]`."""

from collections.abc import Mapping

from sto_engine.config import Spread
from sto_engine.errors import ConfigError
from sto_engine.rates import BIN_MINUTES
from sto_engine.zones import at

NeedKey = tuple[int, str | None]


def window_minutes(
    need: Mapping[NeedKey, int],
    rates: Mapping[str | None, int],
    spread: Spread,
    slot_minutes: int,
    whole_bins: bool = False,
) -> tuple[int, str | None]:
    """Length of the spread window of a run and, where the rates made it longer, a sentence that says why.

    `need`: sends of each (UTC start, provider), those of a start in all under None. `rates`: the most sends in a
    quarter-hour, likewise; with any of them, or under limits of any other kind (`whole_bins`), the window is a whole
    number of quarter-hours. ConfigError (78) for limits that leave no length, or no minute outside
    `spread.avoid_minutes`.
    """
    step = BIN_MINUTES if rates or whole_bins else 1
    least, most = _limits(spread, slot_minutes, step)
    longest, key = _longest(need, rates)
    minutes = most if longest is None else min(max(least, _up(longest, step)), most)
    if minutes <= spread.avoid_minutes:
        raise ConfigError(
            f"spread.avoid_minutes must be less than the spread window; found {spread.avoid_minutes} and a window of "
            f"{minutes} minutes; lower it or raise spread.min_minutes"
        )
    if key is None or minutes == least:
        return minutes, None
    start, provider = key
    who = f"{provider or 'all providers together'} {at(start):%Y-%m-%d %H:%M}Z"
    why = f"needs {longest} minutes at its rate"
    if longest is None or longest > most:
        why = f"needs more than {most} minutes at its rate, the longest allowed"
    return minutes, f"spread window widened from {least} to {minutes} minutes: {who} {why}"


def _longest(need: Mapping[NeedKey, int], rates: Mapping[str | None, int]) -> tuple[int | None, NeedKey | None]:
    """Minutes in which the rates let through the sends of every key, and the first key that needs them all.

    None minutes where a rate lets nothing through.
    """
    longest, first = 0, None
    for key, n in sorted(need.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        rate = rates.get(key[1])
        if rate is None or not n:
            continue
        if rate < 1:
            return None, key
        minutes = _up(n * BIN_MINUTES, rate) // rate
        if minutes > longest:
            longest, first = minutes, key
    return longest, first


def _limits(spread: Spread, slot_minutes: int, step: int) -> tuple[int, int]:
    """Shortest and longest window, multiples of `step` minutes; ConfigError where there is none."""
    least, most = spread.min_minutes, spread.max_minutes
    if most is None:
        # without a maximum of its own a short slot shortens the minimum
        least, most = min(least, slot_minutes), slot_minutes
    if most > slot_minutes:
        raise ConfigError(
            f"spread.max_minutes must be at most the length of a slot, {slot_minutes} minutes; found {most}: sends "
            "would leave in the next slot; lower it or choose a coarser slots.grid"
        )
    if _up(least, step) > most // step * step:
        whole = " in whole quarter-hours, which limits of capacity are held in" if step > 1 else ""
        raise ConfigError(
            f"spread.min_minutes must be at most spread.max_minutes{whole}; found {least} and {most}; lower the first "
            "or raise the second"
        )
    return _up(least, step), most // step * step


def _up(n: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-n // step) * step
