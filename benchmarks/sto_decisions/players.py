"""Who decides in the closed loop: settings of the engine, and how often a model is trained.

`attention_5` mails one in twenty at an hour drawn evenly, other people for each campaign: the usual reading of
"explore 5 %". (By the arms of an experiment, which stay with a user, 95 % of the users would never explore.)
"""

from dataclasses import dataclass, replace

from sto_decisions.engine import PREFIX, SETTINGS, Setting

ORACLE = "oracle"
FIXED = "fixed_10"


@dataclass(frozen=True)
class Player:
    """A policy by its settings; where it needs a model, that is trained every `retrained` campaigns, and begins with
    another brand's where `has_prior`."""

    setting: Setting
    retrained: int = 7
    has_prior: bool = False


def _player(name: str, *more: str, retrained: int = 7, has_prior: bool = False) -> Player:
    setting = SETTINGS[name]
    return Player(Setting((*setting.overrides, *more), setting.needs_bundle or has_prior), retrained, has_prior)


# what the arms decide needs no model, so the cheapest one stands behind them
_UNIFORM = _player("seed_histogram", "experiment.random_share=1")
_FIXED = _player("seed_histogram", "experiment.control_share=1")
LOOP: dict[str, Player | None] = {
    PREFIX + "attention": _player("attention"),
    PREFIX + "bandit": _player("bandit"),
    PREFIX + "bandit_boosted": replace(_player("bandit"), setting=Setting(("model.policy=bandit",), True)),
    PREFIX + "bandit_cohort": _player("bandit_cohort"),
    PREFIX + "bandit_flat": _player("bandit_flat"),
    PREFIX + "attention_5": _player("attention", "cold_start.epsilon=0.05"),
    PREFIX + "boosted": _player("boosted"),
    "uniform": _UNIFORM,
    FIXED: _FIXED,
    ORACLE: None,
}
# campaigns of exploration, in the middle of the 3 to 5 that are usual
_BURST = ("cold_start.burst_campaigns=4",)
COLD: dict[str, Player | None] = {
    FIXED: _FIXED,
    **{
        f"{PREFIX}{name}{suffix}": _player(name, *more, retrained=1)
        for name in ("seed_histogram", "attention", "boosted", "bandit")
        for suffix, more in (("", ()), ("_burst", _BURST))
    },
    **{f"{PREFIX}{name}_prior": _player(name, retrained=1, has_prior=True) for name in ("attention", "boosted")},
    ORACLE: None,
}
