"""From a configuration and a bundle to the policy that decides."""

import difflib

from sto_engine.config import POLICIES, PRESETS, Config
from sto_engine.errors import ConfigError
from sto_engine.models.boosted import PRESET, Boosted
from sto_engine.models.bundle import Bundle
from sto_engine.models.histogram import Histogram
from sto_engine.models.policy import Policy

AVAILABLE = ("histogram", "boosted")


def make_policy(config: Config, bundle: Bundle | None) -> Policy:
    """The policy of `model.policy` (default: the bundle's, without one `histogram`).

    Raises ConfigError (78) for a policy that does not exist or not yet, or that lacks its bundle.
    """
    check_model(config)
    name = config.model.policy or ("boosted" if bundle is not None else "histogram")
    if name == "histogram":
        return Histogram()
    if bundle is None:
        raise ConfigError('model.policy = "boosted" needs a trained bundle; pass --bundle (make one: sto-engine train)')
    return Boosted(bundle)


def check_model(config: Config) -> None:
    """ConfigError (78) for model settings that this version does not offer."""
    model = config.model
    _known("model.policy", model.policy, POLICIES, AVAILABLE)
    _known("model.preset", model.preset, PRESETS, ("seed_histogram", PRESET))
    if model.label != "open_2h":
        raise ConfigError(f'model.label = "{model.label}" is not available in this version; use "open_2h"')
    if model.w24 != 0:
        raise ConfigError(f"model.w24 = {model.w24:g} is not available in this version; set it to 0")


def _known(key: str, value: str | None, names: tuple[str, ...], available: tuple[str, ...]) -> None:
    if value is None or value in available:
        return
    if value in names:
        raise ConfigError(f'{key} = "{value}" is not available in this version; use {" or ".join(available)}')
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.0)
    raise ConfigError(f'{key} must be one of {", ".join(names)}; found "{value}"; nearest: "{near[0]}"')
