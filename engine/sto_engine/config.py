"""The settings of a run: one TOML file plus `--set section.key=value`, validated once, frozen afterwards.

Unknown keys are errors that name the nearest known key. Times of day are "HH:MM" in the recipient's local time.
"""

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sto_engine.config_base import Clock, ClockEnd, QuietHours, Section, Share
from sto_engine.config_file import read_config
from sto_engine.config_policies import Bandit, BestDay, ChannelName, Channels, ColdStart, Context, Frequency
from sto_engine.rates import MAX_COUNT, check_rates

EventType = Literal["send", "delivered", "open", "click", "bounce", "unsubscribe", "complaint", "conversion"]
POLICIES = ("histogram", "attention", "boosted", "bandit", "day_of_week", "hour_of_week")
_Machines = Literal["flags", "agents", "prefetch", "scanner", "fast_clicks", "flood"]
CleanRule = Literal["duplicates", _Machines, "invalid", "dead", "bounces", "shifts", "tests"]
# Campaigns that say themselves what they are. Not "*-test": that may well be a comparison of two subject lines.
TEST_CAMPAIGNS = (
    *("test", "test-*", "test_*", "test *", "qa", "qa-*", "qa_*", "qa *"),
    *("seedlist*", "seed-list*", "seed_list*", "seed list*"),
)
# policies and presets that choose a day of the week
GRID_OF = {"hour_of_week": 168, "day_of_week": 7, "seed_best_day": 7}
PRESETS = ("seed_histogram", "seed_boosted", "seed_thompson", "seed_best_day")


class Ingest(Section):
    on_bad_row: Literal["quarantine", "fail"] = "quarantine"
    max_bad_share: Share = 0.01
    naive_timestamps: Literal["reject", "utc"] = "reject"
    id_type: Literal["uint64", "int64", "string"] | None = None
    columns: dict[str, str] = {}
    event_types: dict[str, EventType] = {}
    default_campaign: Annotated[str, Field(min_length=1)] | None = None
    fold_ids: bool = False
    quarantine_payload: bool = False
    pseudonym_key_file: Path | None = None
    pseudonym_bits: Literal[64, 128] = 64


class Store(Section):
    buckets: Annotated[int, Field(ge=1, le=8192)] | None = None
    retention_days: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _power_of_two(self) -> "Store":
        if self.buckets is not None and self.buckets & (self.buckets - 1):
            raise ValueError(f"store.buckets must be a power of two; found {self.buckets}")
        return self


class Slots(Section):
    grid: Literal[24, 48, 168, 7] = 24


class Window(Section):
    start: Clock = "00:00"
    end: ClockEnd = "24:00"
    quiet: tuple[QuietHours, ...] = ()


class Model(Section):
    policy: str | None = None
    preset: str | None = None
    label: Literal["open_2h", "open_24h", "click", "conversion"] = "open_2h"
    w24: Annotated[float, Field(ge=0)] = 0.0
    history_days: Annotated[int, Field(ge=1, le=36500)] = 90
    half_life_days: Annotated[float, Field(gt=0)] | None = None


class Cohort(Section):
    by: tuple[str, ...] = ("region", "signup_source", "b2b")


class Timezone(Section):
    source: Literal["auto", "profile", "event"] = "auto"
    default: str = "UTC"
    mmdb: Path | None = None


class Recipients(Section):
    """`providers` adds domains to the map of mailbox providers: name -> domains."""

    keep: tuple[str, ...] = ()
    providers: dict[str, tuple[str, ...]] = {}


class Clean(Section):
    """Limits of the cleaning rules (sto_kernels.journal.Rules) and which of them to leave out: `history.rules`."""

    skip: tuple[CleanRule, ...] = ()
    duplicate_s: Annotated[float, Field(ge=0, le=3600)] = 5.0
    fast_click_s: Annotated[float, Field(ge=0, le=3600)] = 3.0
    scanner_share: Share = 0.30
    prefetch_share: Share = 0.35
    invalid_sends: Annotated[int, Field(ge=1)] = 12
    flood_acts: Annotated[int, Field(ge=1)] = 50
    flood_days: Annotated[int, Field(ge=1)] = 2
    flood_share: Share = 0.5
    shift_share: Share = 0.3
    image_proxies: Literal["person", "machine"] = "person"
    test_campaigns: tuple[str, ...] = TEST_CAMPAIGNS


class Audit(Section):
    """Where `audit` fails a store; from `warn_from` of a limit on it warns. See `audit.verdict`."""

    max_machine_share: Share = 0.9
    max_dead_share: Share = 0.3
    max_duplicate_share: Share = 0.5
    max_orphan_share: Share = 0.5
    max_early_share: Share = 0.1
    max_zone_conflict_share: Share = 0.4
    max_no_zone_share: Share = 1.0
    max_user_share: Share = 0.2
    max_quarantine_share: Share = 0.05
    max_future_share: Share = 0.01
    min_coverage: Share = 0.0
    warn_coverage: Share = 0.25
    warn_from: Share = 0.5
    history_acts: Annotated[int, Field(ge=1)] = 5
    test_recipients: Annotated[int, Field(ge=1)] = 10


class Train(Section):
    """`campaign_type`: the type of campaign whose hours are learnt; a bundle for each that is scored is best."""

    campaign_type: Literal["promo", "trigger"] = "promo"
    label_days: Annotated[int, Field(ge=1, le=36500)] = 60
    outcome_lag_hours: Annotated[float, Field(ge=0)] = 6
    min_label_days: Annotated[int, Field(ge=1)] = 14
    min_rows: Annotated[int, Field(ge=1)] = 1_000
    max_rows: Annotated[int, Field(ge=1)] = 1_500_000
    holdout_days: Annotated[int, Field(ge=0, le=36500)] = 14
    calibrate: Literal["none", "isotonic"] = "none"
    trees: Annotated[int, Field(ge=1, le=10_000)] = 30
    depth: Annotated[int, Field(ge=1, le=16)] = 4
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.05
    subsample: Annotated[float, Field(gt=0, le=1)] = 0.8
    colsample: Annotated[float, Field(gt=0, le=1)] = 0.8
    min_child_weight: Annotated[float, Field(ge=0)] = 200.0
    reg_lambda: Annotated[float, Field(ge=0)] = 2.0


class Experiment(Section):
    name: Annotated[str, Field(min_length=1)] = "default"
    control_share: Share = 0.10
    control_time: Clock = "10:00"
    random_share: Share = 0.0
    explore_share: Share = 0.0
    bucket: Literal["hash", "modulo"] = "hash"

    @model_validator(mode="after")
    def _shares_fit(self) -> "Experiment":
        total = self.control_share + self.random_share + self.explore_share
        if total > 1 + 1e-9:  # 0.55 + 0.34 + 0.11 are that by a rounding
            raise ValueError(f"control_share + random_share + explore_share must be at most 1; found {total:g}")
        return self


class Assign(Section):
    """Gains below which a slot is not changed, in expected opens a recipient."""

    min_gain: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    keep_gain: Annotated[float, Field(ge=0, le=1e6)] = 0.0


class Warmup(Section):
    """Messages a UTC day from `first_day` on; beyond the list there is no such limit, before it the first holds."""

    first_day: date
    per_day: Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_COUNT)], ...], Field(min_length=1)]


Rates = Annotated[str | tuple[str, ...], BeforeValidator(check_rates)]


class Capacity(Section):
    """Rates such as "100/s", "500k/h" or "1M/day", one or several that all hold, of all mail, of mailbox providers and
    of channels; warm-up by provider or `total`.

    `decluster`: what a share x above the even one costs each recipient of a slot, in expected opens, divided by x.
    """

    total: Rates | None = None
    providers: dict[Annotated[str, Field(min_length=1)], Rates] = {}
    channels: dict[ChannelName, Rates] = {}
    warmup: dict[str, Warmup] = {}
    on_infeasible: Literal["fail", "defer", "suppress"] = "fail"
    max_slot_share: Annotated[float, Field(gt=0, le=1)] | None = None
    decluster: Annotated[float, Field(ge=0)] = 0.0
    weight: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _total_is_no_provider(self) -> "Capacity":
        if "total" in self.providers:
            raise ValueError("the limit on all mail is capacity.total; found capacity.providers.total")
        return self

    @property
    def limited_providers(self) -> list[str]:
        """Mailbox providers with limits of their own, in order."""
        return sorted({*self.providers, *self.warmup} - {"total"})


class Spread(Section):
    """Length of spread windows; `avoid_minutes` after :00 and :30 stay free of sends."""

    min_minutes: Annotated[int, Field(ge=1, le=1440)] = 15
    max_minutes: Annotated[int, Field(ge=1, le=1440)] | None = None
    avoid_minutes: Annotated[int, Field(ge=0, le=14)] = 0


class Cluster(Section):
    """Where `address` is a Ray cluster: what each bucket asks of it, and how training is spread.

    `scratch`: a folder that all machines see, for dry runs and plans (default: beside the store); `gpus`: workers that
    score on a GPU; `on_lost_worker`: train from the first tree again, or from the last checkpoint.
    """

    address: Annotated[str, Field(min_length=1)] | None = None
    cpus_per_task: Annotated[int, Field(ge=1, le=4096)] = 1
    memory_per_task_mib: Annotated[int, Field(ge=0)] = 0
    gpus: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    max_retries: Annotated[int, Field(ge=0)] = 3
    runtime_env: dict[str, Any] = {}
    scratch: Path | None = None
    train_workers: Annotated[int, Field(ge=1, le=4096)] = 1
    train_cpus: Annotated[int, Field(ge=1, le=4096)] = 2
    train_gpu: Literal["auto"] | bool = "auto"
    checkpoint_trees: Annotated[int, Field(ge=1)] = 50
    on_lost_worker: Literal["restart", "checkpoint"] = "restart"
    max_failures: Annotated[int, Field(ge=0)] = 3
    external_memory: bool = False


class Output(Section):
    row_group: Annotated[int, Field(ge=1_024)] = 131_072


class Config(Section):
    """Every section of the configuration file; field names are the TOML names."""

    ingest: Ingest = Ingest()
    store: Store = Store()
    slots: Slots = Slots()
    window: Window = Window()
    model: Model = Model()
    bandit: Bandit = Bandit()
    best_day: BestDay = BestDay()
    cold_start: ColdStart = ColdStart()
    channels: Channels = Channels()
    context: Context = Context()
    cohort: Cohort = Cohort()
    timezone: Timezone = Timezone()
    recipients: Recipients = Recipients()
    clean: Clean = Clean()
    audit: Audit = Audit()
    train: Train = Train()
    experiment: Experiment = Experiment()
    assign: Assign = Assign()
    frequency: Frequency = Frequency()
    capacity: Capacity = Capacity()
    spread: Spread = Spread()
    cluster: Cluster = Cluster()
    output: Output = Output()

    @model_validator(mode="before")
    @classmethod
    def _grid_of_policy(cls, told: dict[str, Any]) -> dict[str, Any]:
        """Policies of the week bring their grid along, unless it is set."""
        model, slots = (told.get(name, {}) for name in ("model", "slots"))
        if not isinstance(model, dict) or not isinstance(slots, dict) or "grid" in slots:
            return told
        grids = [GRID_OF[name] for name in (model.get("preset"), model.get("policy")) if name in GRID_OF]
        return {**told, "slots": {**slots, "grid": grids[0]}} if grids else told

    def decision(self) -> dict[str, Any]:
        """What can change a decision, as plain JSON values: not where and how to run, nor what only ingest reads."""
        no_decision: dict[str, Any] = {name: True for name in ("audit", "cluster", "ingest", "store")}
        no_decision["context"] = {"calendar", "days"}  # many rows, named by their hash instead
        return self.model_dump(mode="json", exclude={**no_decision, "timezone": {"mmdb"}})


def load_config(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """The configuration of `path` (all defaults without one) with each "section.key=value" override laid over it.

    Raises what `read_config` raises: ConfigError (78) for what is no configuration, InputMissing (66) for no file.
    """
    return read_config(Config, path, overrides)
