"""An explanation as people read it on a terminal: facts, a bar for each slot, and what sets two slots apart."""

from collections.abc import Mapping, Sequence
from typing import Any

from sto_engine.console import printable

BAR_WIDTH = 24
TOP_PARTS = 8
_LABEL = 14
_CURVES = {
    "utility": "utility",
    "p_open": "p open",
    "p_2h_cohort": "cohort",
    "p_2h_personas": "personas",
    "p_2h_own": "own",
    "acts_of_cohort": "cohort",
    "acts_smoothed": "own",
}
_HOURS = {"sends_by_hour": "sends", "exposure_hours_by_hour": "exposure", "acts_by_hour": "acts"}
Section = Mapping[str, Any]


def explain_text(found: Section) -> str:
    """The result of `explain_user` as text; control characters in it are escaped."""
    blocks = [_user(found["user"]), _decision(found), _history(found["history"]), _priors(found["priors"])]
    blocks += [_slots(found), _parts(found), [f"warning: {printable(text)}" for text in found["warnings"]]]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _lines(title: str, rows: Mapping[str, object]) -> list[str]:
    shown = {name: value for name, value in rows.items() if value is not None}
    return [title, *(f"  {name:<{_LABEL}}{printable(str(value))}" for name, value in shown.items())]


def _user(user: Section) -> list[str]:
    shift = f", an accepted shift of {user['shift_min']:+d} min: {user['clock']}" if user["shift_min"] else ""
    rows = {
        "zone": f"{user['zone']} ({user['zone_from']}){shift}",
        "cohort": user["cohort"],
        "taken for": user["taken_for"] + (", but the address is dead" if user["invalid_address"] else ""),
        "consent": f"{_yes(user['consent'])}, to profiling: {_yes(user['consent_profiling'])}",
        "address": user["address_status"],
    }
    return _lines(f"User {printable(user['user_id'])}", rows)


def _decision(found: Section) -> list[str]:
    it, clock = found["decision"], found["slots"]["local"]
    bundle = f", bundle {it['bundle_id']}" if it["bundle_id"] else ""
    title = f"Decision for {it['date']} by {it['policy']}{bundle}"
    if it["slot"] is None:
        return _lines(title, {"not mailed": it["suppressed"]})
    second = it["runner_up"]
    behind = (
        None if second is None else f"{clock[second]}, {_chance(it['runner_up_p_open'])}, behind by {it['lead']:.4g}"
    )
    rows = {
        "slot": f"{clock[it['slot']]} local time, sent from {it['send_from']} to {it['send_before']}",
        "arm": f"{it['arm'] or 'outside the experiment'} ({it['reason']}), propensity {it['propensity']:.3g}",
        "model": f"{clock[it['model_slot']]}, {_chance(it['model_p_open'])} ({it['model_reason']})",
        "runner-up": behind,
        "control": f"{clock[it['control_slot']]}, {_chance(it['p_control'])}",
    }
    return _lines(title, rows)


def _history(it: Section) -> list[str]:
    rows = {
        "sends": f"{it['sends']} of {it['campaigns']} campaigns, {it['opened']} opened",
        "human acts": f"{it['acts']}, {it['first_act']} to {it['last_act']}" if it["acts"] else "none",
        "left out": ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in it["dropped"].items() if n) or None,
    }
    return _lines(f"History from {it['from'][:10]} until {it['before'][:10]}", rows)


def _priors(it: Section) -> list[str]:
    if not it:
        return []
    personas = [
        f"{p['weight']:.0%} number {p['persona']}, peaks {p['weekday_peak_hour']}h, weekends {p['weekend_peak_hour']}h"
        for p in it.get("personas", [])
    ]
    rows = {
        "cohort": "known" if it["cohort_known"] else "never seen: that of everyone is used",
        "open rate": f"{it['open_rate_2h']:.4f} within 2 h, {it['open_rate']:.4f} in all",
        "personas": "; ".join(personas) or None,
        "smoothed with": _smoothing(it),
    }
    return _lines("What is usual", rows)


def _smoothing(it: Section) -> str | None:
    if "pseudo_counts" not in it:
        return None
    return f"{it['pseudo_counts']:g} acts of the cohort, which stands alone below {it['min_acts']} acts of his own"


def _slots(found: Section) -> list[str]:
    """One line a slot; the bar is the utility, or P(open) where the utility is a margin and may be negative."""
    slots, it = found["slots"], found["decision"]
    name = "utility" if min(value or 0 for value in slots["utility"]) >= 0 else "p_open"
    bars = [value or 0.0 for value in slots[name]]
    most, columns = max([*bars, 1e-9]), _columns(found)
    lines = [f"  {'':<8}" + "".join(f"{column:>10}" for column in columns) + f"  bar: {name.replace('_', ' ')}"]
    for slot, clock in enumerate(slots["local"]):
        cells = "".join(f"{_number(values[slot]):>10}" for values in columns.values())
        bar = "█" * round(BAR_WIDTH * bars[slot] / most) if slots["allowed"][slot] else "not allowed"
        lines.append(f"  {clock} {_mark(slot, it)} {cells}  {bar}".rstrip())
    chances = ["  cohort -> personas -> own: P(open) within 2 h by attention alone"] if "p_2h_own" in slots else []
    return ["Slots (> the slot, * the model's, 2 the runner-up, c the control)", *chances, *lines]


def _columns(found: Section) -> dict[str, Sequence[float | None]]:
    """The columns of the table by their titles; what is known by the hour stands on the slot that begins it."""
    slots, past = found["slots"], found["history"]
    shown = {title: slots[key] for key, title in _CURVES.items() if slots.get(key) is not None}
    if shown.get("p open") == shown["utility"]:
        del shown["utility"]
    count = len(slots["local"])
    step = 2 if count == 48 else 1
    for key, title in _HOURS.items():
        if past[key] is not None and count >= 24:
            shown[title] = [past[key][slot // step % 24] if slot % step == 0 else None for slot in range(count)]
    return shown


def _mark(slot: int, it: Section) -> str:
    marks = {it.get("control_slot"): "c", it.get("runner_up"): "2", it.get("model_slot"): "*", it["slot"]: ">"}
    return marks.get(slot, " ")


def _parts(found: Section) -> list[str]:
    """The parts of the margin that set the model's slot apart, from the runner-up and from the mean slot."""
    if found["contributions"] is None:
        return []
    it, clock = found["decision"], found["slots"]["local"]
    margin, parts = found["contributions"]["margin"], found["contributions"]["parts"]
    against = "mean" if it["runner_up"] is None else "runner_up"
    other = "the mean slot" if it["runner_up"] is None else clock[it["runner_up"]]
    lines = [f"  {'':<8}{'feature':<20}{'value':>10}{'- ' + other:>16}{'- mean slot':>16}"]
    for part in [*parts[:TOP_PARTS], {**margin, "part": "all", "feature": "margin", "value": margin["chosen"]}]:
        gaps = [part["chosen"] - part[name] for name in (against, "mean")]
        lines.append(
            f"  {part['part']:<8}{part['feature']:<20}{_number(part['value']):>10}{gaps[0]:>+16.4f}{gaps[1]:>+16.4f}"
        )
    return [f"Why {clock[it['model_slot']]}: what the margin gains", *lines]


def _chance(value: float | None) -> str:
    return "P(open) unknown" if value is None else f"P(open) {value:.4f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _yes(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "not stated"}[value]
