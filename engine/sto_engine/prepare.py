"""From a request to a plan: inputs opened and checked, what cannot be run refused, the run named by its inputs."""

import datetime as dt
import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import sto_engine
from sto_engine.assign.arms import check_experiment, occasion_of
from sto_engine.assign.channels import Options, check_channels, parse_channels
from sto_engine.assign.cold_start import office_hours
from sto_engine.assign.frequency import check_frequency
from sto_engine.assign.plan_json import Told
from sto_engine.assign.preflight import check_provider_names
from sto_engine.assign.spread_window import window_minutes
from sto_engine.assign.window import window_never_opens
from sto_engine.config import Config
from sto_engine.engine_code import code_sha256
from sto_engine.errors import BadData, ConfigError, UsageError
from sto_engine.executor import Executor
from sto_engine.files import canonical_json
from sto_engine.history.days import calendar_facts
from sto_engine.history.providers import known_providers, provider_map
from sto_engine.ingest.audience import read_audience
from sto_engine.ingest.calendar_file import with_calendar
from sto_engine.ingest.store import Store
from sto_engine.models.bandit import Bandit
from sto_engine.models.bandit_state import state_for
from sto_engine.models.bundle import Bundle, load_bundle
from sto_engine.models.policy import Policy
from sto_engine.models.registry import channel_policy, for_type, make_policy
from sto_engine.open_previous import open_previous
from sto_engine.plan import Plan
from sto_engine.previous import PastRun, Previous
from sto_engine.progress import Progress
from sto_engine.rates import BIN_MINUTES
from sto_engine.slots import grid_of, parse_clock
from sto_engine.tables import CAMPAIGN_TYPES, TABLES_VERSION
from sto_engine.zones import midnight_ms, tzdata_version
from sto_kernels.hashing import HASH_NAME, HASH_VERSION

DAY_MS = 86_400_000


@dataclass(frozen=True)
class ScoreRequest:
    """The inputs of one nightly run; paths are folders unless said otherwise.

    `date` is the recipients' local day (default: the day after the store's newest event, UTC); `audience` a Parquet or
    CSV file with a `user_id` column (default: the recipients snapshot, else everyone seen in events before the day);
    `channel` one or several of them, as a comma list (default: `channels.choose`, else email);
    `horizon_days` how many local days from `date` on mail may wait for its slot (default: all of the grid's).
    """

    store: Path
    out: Path
    bundle: Path | None = None
    date: dt.date | None = None
    audience: Path | None = None
    campaign: str | None = None
    campaign_type: str = "promo"
    channel: str | None = None
    not_before_ms: int | None = None
    previous: tuple[Path, ...] = ()
    prices_from: Path | None = None
    horizon_days: int | None = None
    bandit_state: Path | None = None
    dry_run: bool = False
    dump_scores: bool = False
    dump_features: bool = False
    threads: int = 2
    seed: int = 0
    cluster: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A run that can be started: `facts` stand in the manifest, `run_id` is their hash."""

    plan: Plan
    run_id: str
    facts: dict[str, Any]
    quarantined: dict[str, int]
    warnings: list[str]


def prepare(request: ScoreRequest, config: Config, progress: Progress, on_gpu: bool = False) -> Prepared:
    """Open and check everything that a run depends on; raises before anything is written.

    `on_gpu`: a forest is scored on GPUs, which agree with CPUs to rounding, so that the run is another one.
    """
    channels = _refuse(request, config)
    config, store = with_calendar(config), Store.open(request.store)
    check_experiment(config.experiment, store.id_type)
    check_limits(config, store)
    bundle = load_bundle(request.bundle) if request.bundle is not None else None
    day = request.date or _default_date(store)
    policy = _with_state(_policy(request, config, bundle, channels, day), request, config, store, day)
    audience = read_audience(request.audience, store, config) if request.audience is not None else None
    prices_run, prices = _replayed(request, store, day)
    plan = Plan(
        store=store,
        config=config,
        policy=policy,
        grid=grid_of(config.slots.grid),
        date=day,
        origin_ms=midnight_ms(day),
        not_before_ms=request.not_before_ms,
        campaign=request.campaign,
        channels=channels,
        audience=audience,
        seed=request.seed,
        dump_features=request.dump_features,
        previous=_previous(request, store, day, channels),
        prices=prices,
        horizon_days=_horizon(request, config),
    )
    _check_control_time(plan)
    facts = _facts(request, plan, bundle, prices_run)
    if on_gpu and bundle is not None:
        facts["device"] = "cuda"
    run_id = hashlib.sha256(canonical_json(facts)).hexdigest()[:16]
    warnings = [*_warnings(plan), *_other_type(request.campaign_type, bundle)]
    for warning in warnings:
        progress.warn("check", detail=warning)
    quarantined = audience.quarantined if audience is not None else dict(store.recipients_quarantined)
    return Prepared(plan, run_id, facts, quarantined, warnings)


def _policy(
    request: ScoreRequest, config: Config, bundle: Bundle | None, channels: tuple[str, ...], day: date
) -> Policy:
    """Who decides, for this type of campaign."""
    if len(channels) > 1:
        policy = channel_policy(config, bundle, channels)
    else:
        policy = make_policy(config, bundle, occasion_of(day, request.campaign), request.seed)
    if request.dump_scores and not policy.has_chances:
        raise ConfigError(f"--dump-scores needs a policy with probabilities; {policy.name} has none")
    return for_type(policy, request.campaign_type)


def scratch(plan: Plan, executor: Executor) -> Path | None:
    """Where a run that keeps nothing has its files: what all machines see, or the system's own place (None)."""
    if executor.in_process:
        return None
    return (plan.config.cluster.scratch or plan.store.path.parent).absolute()


def _with_state(policy: Policy, request: ScoreRequest, config: Config, store: Store, day: date) -> Policy:
    """A bandit that goes by the outcomes of a state instead of counting them."""
    if request.bandit_state is None:
        return policy
    if not isinstance(policy, Bandit):
        raise ConfigError(f'--bandit-state is for model.policy = "bandit"; found "{policy.name}"; leave it out')
    return replace(policy, state=state_for(request.bandit_state, store, day, config, policy.bundle_id))


def _refuse(request: ScoreRequest, config: Config) -> tuple[str, ...]:
    """The channels of the run, once nothing that can be seen from here stands against it."""
    if request.campaign_type not in CAMPAIGN_TYPES:
        raise UsageError(f'--campaign-type must be one of {", ".join(CAMPAIGN_TYPES)}; found "{request.campaign_type}"')
    if request.campaign_type == "transactional":
        raise ConfigError("a transactional campaign must not wait for a better hour; send it at once, without scoring")
    if request.threads < 1:
        raise UsageError(f"--threads must be at least 1; found {request.threads}")
    window_never_opens(config, grid_of(config.slots.grid))
    office_hours(config.cold_start, grid_of(config.slots.grid))
    provider_map(config)
    check_frequency(config)
    channels = parse_channels(request.channel, config)
    check_channels(config, Options(channels, config.slots.grid), grid_of(config.slots.grid).days)
    return channels


def check_limits(config: Config, store: Store) -> None:
    """ConfigError (78) for a spread window that cannot be, or a limit of a provider that nobody knows: neither the
    shipped map nor recipients.providers nor the recipients of the store."""
    window_minutes({}, {}, config.spread, grid_of(config.slots.grid).send_minutes)
    known = set(known_providers(config))
    if known.issuperset(config.capacity.limited_providers):
        return
    for bucket in range(store.buckets):
        recipients = store.read_recipients(bucket)
        if recipients is not None:
            known |= set(recipients["provider"].drop_nulls().str.strip_chars().str.to_lowercase().unique())
    check_provider_names(config, known)


def _previous(request: ScoreRequest, store: Store, day: date, channels: tuple[str, ...]) -> Previous | None:
    # the first night of `--previous OUT --out OUT`
    paths = [path for path in request.previous if path.exists() or path.absolute() != request.out.absolute()]
    return open_previous(paths, store, day, channels)


def _replayed(request: ScoreRequest, store: Store, day: date) -> tuple[PastRun | None, Told | None]:
    """The run whose prices are replayed, and they."""
    if request.prices_from is None:
        return None, None
    found = open_previous([request.prices_from], store, day, option="--prices-from")
    run = found.runs[-1] if found is not None else None
    if run is None or run.prices is None:
        raise BadData(
            f"--prices-from expects a committed run with capacity limits; {request.prices_from} has no prices"
        )
    if run.date != day:
        raise UsageError(f"--prices-from expects a run for {day}; {request.prices_from} is for {run.date}")
    return run, run.prices["prices"]


def _horizon(request: ScoreRequest, config: Config) -> int:
    """Days that mail may wait, by --horizon-days; UsageError (2) for more than the grid has."""
    days, asked = grid_of(config.slots.grid).days, request.horizon_days
    if asked is None:
        return days
    if not 1 <= asked <= 7:
        raise UsageError(f"--horizon-days must be 1 to 7; found {asked}")
    if asked > days:
        raise UsageError(
            f"--horizon-days {asked} needs a grid of several days; found slots.grid = {config.slots.grid}; pass "
            "--set model.policy=hour_of_week or day_of_week"
        )
    return asked


def _default_date(store: Store) -> date:
    if store.newest_event_ms is None:
        raise UsageError("the store has no events, so there is no default date; pass --date YYYY-MM-DD")
    return datetime.fromtimestamp(store.newest_event_ms / 1000, UTC).date() + timedelta(days=1)


def _check_control_time(plan: Plan) -> None:
    minute = parse_clock(plan.config.experiment.control_time)
    # day slots start at it, and limits are held in quarter-hours
    step = BIN_MINUTES if plan.grid.slots == 7 else plan.grid.minutes
    if minute % step:
        raise ConfigError(
            f"experiment.control_time must be the start of a slot of {step} minutes; "
            f'found "{plan.config.experiment.control_time}"'
        )


def _warnings(plan: Plan) -> list[str]:
    newest = plan.store.newest_event_ms
    warnings = []
    if newest is None:
        whoever = "gets the control time" if plan.policy.bundle_id is None else "is new to the bundle's model"
        warnings.append(f"the store has no events: every recipient {whoever}")
    elif newest < plan.origin_ms - plan.config.model.history_days * DAY_MS:
        warnings.append(
            f"no event lies in the {plan.config.model.history_days} days before {plan.date}; ingest newer events, "
            "pass an earlier --date or raise model.history_days"
        )
    return warnings


def _other_type(campaign_type: str, bundle: Bundle | None) -> list[str]:
    """A bundle learns the hours of one type of campaign, and another's follow them only so far."""
    if bundle is None or bundle.preset is not None or campaign_type == "promo":
        return []
    learnt = CAMPAIGN_TYPES[bundle.priors.target_type]
    if learnt == campaign_type:
        return []
    return [
        f'bundle {bundle.path} learnt the hours of "{learnt}" campaigns; for --campaign-type {campaign_type} train one '
        f'by train.campaign_type = "{campaign_type}"'
    ]


def _state_facts(policy: Policy) -> list[str] | None:
    state = policy.state if isinstance(policy, Bandit) else None
    return None if state is None else [state.meta["content"], state.meta["through"]]


def _facts(request: ScoreRequest, plan: Plan, bundle: Bundle | None, prices: PastRun | None) -> dict[str, Any]:
    """Everything that can change a byte of the shards, and nothing else: no clock, no path, no thread count."""
    return {
        "config": plan.config.decision(),
        "store": plan.store.fingerprint(),
        "bundle_id": bundle.bundle_id if bundle is not None else None,
        "date": plan.date.isoformat(),
        "not_before_ms": plan.not_before_ms,
        "campaign": plan.campaign,
        "campaign_type": request.campaign_type,
        "channel": ",".join(plan.channels),
        **({"horizon_days": plan.horizon_days} if plan.grid.days > 1 else {}),
        "audience_sha256": plan.audience.sha256 if plan.audience is not None else None,
        "previous": plan.previous.run_ids if plan.previous is not None else [],
        "prices_from": prices.run_id if prices is not None else None,
        "bandit_state": _state_facts(plan.policy),
        "dump_scores": request.dump_scores,
        "dump_features": request.dump_features,
        "seed": plan.seed,
        "schema": {"tables": TABLES_VERSION, "hash": f"{HASH_NAME}/{HASH_VERSION}"},
        "code": {"version": sto_engine.__version__, "sha256": code_sha256()},
        "tzdata": tzdata_version(),
        **calendar_facts(plan.config),
    }
