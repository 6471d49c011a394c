"""The bundle that a training is to replace: whether it may stay, and whether it can be compared."""

from datetime import date
from pathlib import Path

from sto_engine.config import Config
from sto_engine.errors import BadData, InputMissing
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.models.features import FEATURES
from sto_engine.models.seeds import SEED_BOOSTED
from sto_engine.train.rows import seed_names


def read_former(bundle: Path) -> Bundle | None:
    """The bundle that is to be replaced; None where there is none, or it is not whole."""
    try:
        return load_bundle(bundle)
    except (InputMissing, BadData):
        return None


def answers(former: Bundle, config: Config, is_seed: bool) -> bool:
    """Whether a bundle is for this question and these features; one that is not cannot be kept, however young."""
    names, preset = (seed_names(config), SEED_BOOSTED) if is_seed else (list(FEATURES), None)
    return (former.meta["label"], former.preset, former.features) == (config.model.label, preset, names)


def has_prior(former: Bundle, prior: Bundle | None) -> bool:
    """Whether it began with the same bundle of another brand."""
    return former.meta.get("prior") == (None if prior is None else prior.bundle_id)


def is_young(former: Bundle, day: date, days: float | None) -> bool:
    """Whether it is of the `days` before `day`."""
    if days is None:
        return False
    age = (day - date.fromisoformat(former.meta["as_of"])).days
    return 0 <= age <= days
