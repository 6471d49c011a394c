"""What a training is asked for: which model, on which features, for which label."""

from typing import Any

from sto_engine.config import Config, Train
from sto_engine.errors import ConfigError
from sto_engine.models.day_features import OWN_FEATURES, PLAIN_FEATURES
from sto_engine.models.day_of_week import DAY_OF_WEEK, SEED_BEST_DAY
from sto_engine.models.features import FEATURES
from sto_engine.models.registry import check_model
from sto_engine.models.seeds import SEED_BOOSTED
from sto_engine.slots import grid_of
from sto_engine.train.rows import seed_names

BOOSTED = "boosted"
POLICIES = (BOOSTED, DAY_OF_WEEK)
PRESETS = (SEED_BOOSTED, SEED_BEST_DAY)
OF_DAYS = (DAY_OF_WEEK, SEED_BEST_DAY)
# What the field's plain recipes train, and days, where the configuration does not say otherwise.
_INSTEAD: dict[str, dict[str, Any]] = {
    SEED_BOOSTED: {"trees": 500, "depth": 6, "colsample": 1.0, "min_child_weight": 1.0, "reg_lambda": 1.0},
    # the square root of six features a node, as random forests have it
    SEED_BEST_DAY: {
        **{"trees": 100, "depth": 10, "learning_rate": 1.0, "colsample": 0.41},
        **{"min_child_weight": 1.0, "reg_lambda": 1e-3},
    },
    DAY_OF_WEEK: {"trees": 60, "depth": 4, "learning_rate": 0.1, "min_child_weight": 20.0},
}


def question_of(config: Config) -> str:
    """The policy or preset to be trained; ConfigError (78) for what is not trained."""
    check_model(config)
    policy, preset = config.model.policy, config.model.preset
    if policy not in (None, *POLICIES) or preset not in (None, *PRESETS):
        raise ConfigError(
            f'train makes policy {" or ".join(POLICIES)} and preset {" or ".join(PRESETS)}; "{preset or policy}" needs '
            "no training"
        )
    grid_of(config.slots.grid)
    return preset or policy or BOOSTED


def labelled(config: Config, question: str) -> Config:
    """The configuration with the label that is learnt: of days clicks, where it does not say."""
    if question not in OF_DAYS or "label" in config.model.model_fields_set:
        return config
    return config.model_copy(update={"model": config.model.model_copy(update={"label": "click"})})


def names_of(config: Config, question: str) -> list[str]:
    """The feature contract."""
    known = {DAY_OF_WEEK: OWN_FEATURES, SEED_BEST_DAY: PLAIN_FEATURES, BOOSTED: FEATURES}
    return seed_names(config) if question == SEED_BOOSTED else list(known[question])


def preset_of(question: str) -> str | None:
    """The preset that stands in the bundle; None for the engine's own."""
    return question if question in PRESETS else None


def policy_of(question: str) -> str:
    """The policy that stands in the bundle."""
    return DAY_OF_WEEK if question in OF_DAYS else BOOSTED


def settings_of(train: Train, question: str) -> Train:
    """The section with the defaults of the question: what the configuration names itself stays."""
    instead = _INSTEAD.get(question, {})
    return train.model_copy(update={k: v for k, v in instead.items() if k not in train.model_fields_set})
