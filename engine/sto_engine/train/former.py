"""The bundle that a training is to replace: whether it may stay, and whether it can be compared."""

from datetime import date
from pathlib import Path

from sto_engine.config import Config
from sto_engine.errors import BadData, InputMissing
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.train.question import names_of, policy_of, preset_of


def read_former(bundle: Path) -> Bundle | None:
    """The bundle that is to be replaced; None where there is none, or it is not whole."""
    try:
        return load_bundle(bundle)
    except (InputMissing, BadData):
        return None


def answers(former: Bundle, config: Config, question: str) -> bool:
    """Whether a bundle is for this question and these features; one that is not cannot be kept, however young."""
    wanted = (config.model.label, policy_of(question), preset_of(question), names_of(config, question))
    return (former.meta["label"], former.meta.get("policy"), former.preset, former.features) == wanted


def has_prior(former: Bundle, prior: Bundle | None) -> bool:
    """Whether it began with the same bundle of another brand."""
    return former.meta.get("prior") == (None if prior is None else prior.bundle_id)


def is_young(former: Bundle, day: date, days: float | None) -> bool:
    """Whether it is of the `days` before `day`."""
    if days is None:
        return False
    age = (day - date.fromisoformat(former.meta["as_of"])).days
    return 0 <= age <= days
