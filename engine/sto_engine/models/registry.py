"""From a configuration and a bundle to the policy that decides."""

import difflib
from dataclasses import replace

from sto_engine.config import GRID_OF, POLICIES, PRESETS, Config
from sto_engine.errors import ConfigError
from sto_engine.models.attention import Attention
from sto_engine.models.bandit import Bandit
from sto_engine.models.boosted import Boosted
from sto_engine.models.bundle import Bundle
from sto_engine.models.channels import ChannelAttention
from sto_engine.models.day_of_week import DAY_OF_WEEK, SEED_BEST_DAY, DayOfWeek
from sto_engine.models.histogram import Histogram
from sto_engine.models.hour_of_week import HourOfWeek
from sto_engine.models.policy import Policy
from sto_engine.models.seeds import (
    SEED_BOOSTED,
    SEED_HISTOGRAM,
    SEED_THOMPSON,
    SeedBoosted,
    SeedHistogram,
    SeedThompson,
)
from sto_engine.slots import grid_of
from sto_engine.tables import CAMPAIGN_TYPES


def make_policy(config: Config, bundle: Bundle | None, occasion: str = "", seed: int = 0) -> Policy:
    """The policy of `model.preset` or `model.policy` (default: the bundle's, without one `attention`).

    `occasion` and `seed` name the draws of policies that draw.

    Raises ConfigError (78) for a policy that does not exist, or that lacks its bundle.
    """
    check_model(config)
    grid, model = grid_of(config.slots.grid), config.model
    if model.preset == SEED_HISTOGRAM:
        return SeedHistogram(grid, model)
    if model.preset == SEED_THOMPSON:
        return SeedThompson(grid, model)
    name = model.policy or _POLICY_OF.get(model.preset or "") or ("attention" if bundle is None else "boosted")
    _check_label(name, model.label)
    if name == "histogram":
        return Histogram(grid, model)
    if name == "hour_of_week":
        return _hour_of_week(config, bundle)
    if name == "attention":
        usable = bundle if bundle is not None and bundle.preset is None else None
        return Attention(grid, model, usable)
    if name == "bandit":
        return _bandit(config, bundle, occasion, seed)
    if bundle is None:
        raise ConfigError(f'model.policy = "{name}" needs a trained bundle; pass --bundle (make one: sto-engine train)')
    _check_kind(name, bundle)
    _check_bundle(config, bundle)
    if name == DAY_OF_WEEK:
        return DayOfWeek(config, bundle)
    return Boosted(grid, model, bundle) if bundle.preset is None else SeedBoosted(grid, model, bundle)


def for_type(policy: Policy, campaign_type: str) -> Policy:
    """The policy for campaigns of a type of CAMPAIGN_TYPES; the same where it does not tell types apart."""
    kind = CAMPAIGN_TYPES.index(campaign_type)
    if isinstance(policy, HourOfWeek):
        return replace(policy, of_day=replace(policy.of_day, kind=kind))
    return replace(policy, kind=kind) if isinstance(policy, Attention | Boosted | Bandit | ChannelAttention) else policy


def _hour_of_week(config: Config, bundle: Bundle | None) -> HourOfWeek:
    """By the forest of a bundle, or by attention."""
    hours = grid_of(24)
    if bundle is None or bundle.preset is not None:
        return HourOfWeek(Attention(hours, config.model))
    _check_kind("hour_of_week", bundle)
    _check_bundle(config, bundle)
    return HourOfWeek(Boosted(hours, config.model, bundle))


def _bandit(config: Config, bundle: Bundle | None, occasion: str, seed: int) -> Policy:
    model, settings = config.model, config.bandit
    if bundle is not None:
        _check_kind("bandit", bundle)
        _check_bundle(config, bundle)
        if bundle.preset is not None or settings.prior != "contextual":
            raise ConfigError(
                f'model.policy = "bandit" takes a bundle of policy "boosted" and bandit.prior = "contextual"; found '
                f'bandit.prior = "{settings.prior}", a bundle of preset {bundle.preset}; leave --bundle out'
            )
    label = model.label if bundle is None else str(bundle.meta["label"])
    if label in ("click", "conversion"):
        raise ConfigError(f'model.policy = "bandit" knows opens; found label "{label}"; use "boosted" for it')
    if model.w24:
        raise ConfigError(
            f'model.w24 = {model.w24} is not for model.policy = "bandit", whose outcomes are of one label'
        )
    return Bandit(grid_of(config.slots.grid), model, settings, config.train.outcome_lag_hours, bundle, occasion, seed)


def _check_kind(name: str, bundle: Bundle) -> None:
    """ConfigError (78) for a bundle of hours where days are asked for, and the other way round."""
    if (name == DAY_OF_WEEK) == (bundle.policy == DAY_OF_WEEK):
        return
    raise ConfigError(
        f'policy "{name}" needs a bundle trained for it; {bundle.path} was trained for policy "{bundle.policy}"; pass '
        f"--set model.policy={bundle.policy}, or another --bundle"
    )


def channel_policy(config: Config, bundle: Bundle | None, channels: tuple[str, ...]) -> Policy:
    """The policy that chooses from several channels: only `attention` tells them apart (ConfigError for others)."""
    check_model(config)
    model = config.model
    name = model.preset or model.policy or ("boosted" if bundle is not None else "attention")
    if name != "attention":
        raise ConfigError(
            f'policy "{name}" does not tell channels apart; to choose from {", ".join(channels)} set '
            'model.policy = "attention", or score one channel'
        )
    _check_label(name, model.label)
    usable = bundle if bundle is not None and bundle.preset is None else None
    return ChannelAttention(grid_of(config.slots.grid), model, channels, usable)


def _check_bundle(config: Config, bundle: Bundle) -> None:
    """The bundle answers the question that the configuration asks."""
    asked = {"model.preset": config.model.preset}
    found = {"model.preset": bundle.preset}
    if "label" in config.model.model_fields_set:
        asked["model.label"], found["model.label"] = config.model.label, bundle.meta["label"]
    for key, value in asked.items():
        if value is not None and value != found[key]:
            raise ConfigError(
                f'{key} = "{value}", but bundle {bundle.path} was trained for {found[key]}; train it anew'
            )


def check_model(config: Config) -> None:
    """ConfigError (78) for model settings that do not exist, or that contradict each other."""
    model = config.model
    _known("model.policy", model.policy, POLICIES)
    _known("model.preset", model.preset, PRESETS)
    if model.policy is not None and model.preset is not None and (model.policy, model.preset) not in _PAIRS:
        raise ConfigError(f'model.preset = "{model.preset}" is not a "{model.policy}"; leave model.policy out')
    _check_label(model.policy, model.label)
    _check_grid(config)


def _check_grid(config: Config) -> None:
    """Policies of a week have grids of their own, and nobody else has them."""
    name, slots = config.model.preset or config.model.policy, config.slots.grid
    wanted = GRID_OF.get(name or "")
    if wanted is not None and slots != wanted:
        raise ConfigError(f'"{name}" needs slots.grid = {wanted}; found {slots}; leave slots.grid out')
    if wanted is None and slots not in (24, 48):
        own = ", ".join(f"{policy} for {grid}" for policy, grid in GRID_OF.items())
        raise ConfigError(f"slots.grid = {slots} needs a policy of the week ({own}); found {name or 'the default'}")
    if name == "hour_of_week" and config.model.w24:
        raise ConfigError(
            f"model.w24 compares slots of one day; found {config.model.w24:g} with hour_of_week; set it to 0"
        )


def _check_label(policy: str | None, label: str) -> None:
    if policy in ("attention", "histogram") and label in ("click", "conversion"):
        raise ConfigError(
            f'model.label = "{label}" needs a bundle trained for it (--bundle); policy "{policy}" knows opens'
        )


_POLICY_OF = {SEED_HISTOGRAM: "histogram", SEED_BOOSTED: "boosted", SEED_BEST_DAY: DAY_OF_WEEK}
_PAIRS = tuple((policy, preset) for preset, policy in _POLICY_OF.items())


def _known(key: str, value: str | None, names: tuple[str, ...]) -> None:
    if value is None or value in names:
        return
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.0)
    raise ConfigError(f'{key} must be one of {", ".join(names)}; found "{value}"; nearest: "{near[0]}"')
