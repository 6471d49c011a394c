"""`train --prior-bundle`: a new account begins with what another brand's bundle knows.

shrunk    there is enough to train: the own priors, at both moments, are drawn to the other's (models.inherit)
carried   there is too little, or too little before the days of labels: forest, base weights and calibration are the
          other's, priors as above
"""

from pathlib import Path
from typing import Any

from sto_engine.config import Config
from sto_engine.errors import BadData, ConfigError, UsageError
from sto_engine.models.boosted import check_features
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.models.features import FEATURES
from sto_engine.models.inherit import USERS, matched
from sto_engine.models.priors import Priors
from sto_engine.progress import Progress
from sto_engine.train.fit import Fitted
from sto_engine.train.passes import MomentPriors
from sto_engine.train.question import BOOSTED, preset_of

# what a carried forest is of no use without
_OF_FOREST = ("base_weight_5", "calibration_x", "calibration_y")


def read_prior(path: Path, bundle: Path, config: Config, question: str) -> Bundle:
    """The other brand's bundle, checked.

    Raises UsageError (2) for the bundle that is to be made; ConfigError (78) where it answers another question;
    BadData (65) for one of another version, preset or feature contract, or without its tables; InputMissing (66).
    """
    if path.absolute() == bundle.absolute():
        raise UsageError("--prior-bundle expects the bundle of another brand; found that of --bundle")
    if question != BOOSTED:
        kind = "preset" if preset_of(question) else "policy"
        raise ConfigError(
            f'--prior-bundle has tables of cohorts, which {kind} "{question}" does not use; leave one out'
        )
    prior = load_bundle(path)
    if prior.preset is not None or prior.policy != BOOSTED:
        by = f'preset "{prior.preset}"' if prior.preset is not None else f'policy "{prior.policy}"'
        raise BadData(
            f'--prior-bundle expects a bundle of policy "boosted"; {path} was trained by {by}, which knows no cohorts; '
            "pass another"
        )
    if prior.meta["label"] != config.model.label:
        raise ConfigError(
            f'--prior-bundle {path} was trained for model.label = "{prior.meta["label"]}"; found model.label = '
            f'"{config.model.label}"; pass one for the same label'
        )
    check_features(prior, FEATURES)
    prior.table("base_weight_5", (5,))
    _ = prior.priors  # whole tables, or BadData
    return prior


def lack_before(then: MomentPriors) -> str | None:
    """Why rows cannot teach what a history is worth, None where they can: too few users had one at the origin."""
    if then.users >= USERS:
        return None
    return (
        f"{then.users:.0f} users had three opens before the days of labels, and {USERS:.0f} are asked for; "
        "lower train.label_days, or wait for more history"
    )


def carried(prior: Bundle, now: Priors, own: Priors, why: str) -> Fitted:
    """What is saved beside the other brand's forest; `now` are the priors of the new bundle, `own` those before they
    were drawn to the other's."""
    # the forest knows sign-up sources by their place among the names that it was trained with
    tensors = {**now.tensors(), "source_names": prior.tensors["source_names"]}
    tensors |= {name: prior.tensors[name] for name in _OF_FOREST if name in prior.tensors}
    card = {"train": prior.card["train"], "from_prior": {**origin(prior, own), "forest": "carried", "why": why}}
    return Fitted(tensors, card, [])


def warn_of_strangers(prior: Bundle | None, own: Priors, progress: Progress) -> None:
    """Tell where the other brand knows none of the own cohorts."""
    if prior is None or not own.cohort_names or matched(own, prior.priors):
        return
    theirs = next(iter(prior.priors.cohort_names), None)
    progress.warn(
        "prior_bundle",
        detail=f"bundle {prior.path} knows none of the {len(own.cohort_names)} cohorts here, such as "
        f'"{own.cohort_names[0]}"; it has "{theirs}"; was it trained with another cohort.by?',
    )


def origin(prior: Bundle, own: Priors) -> dict[str, Any]:
    """What a card says of the other brand: the rows behind its forest, how many of the own cohorts it knows."""
    return {
        "bundle_id": prior.bundle_id,
        "rows": prior.card["rows"],
        "cohorts": len(own.cohort_names),
        "cohorts_known": matched(own, prior.priors),
    }
