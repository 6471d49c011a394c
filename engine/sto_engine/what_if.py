"""`plan`: what a night would do under these limits and under others, without writing assignments.

Everyone is scored once; each scenario then has its own rounds on the same staged rows, in a folder that is gone
afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sto_engine.assign.resources import TOTAL
from sto_engine.assign.shortage import Feasibility
from sto_engine.bucket_work import KEEP_BYTES, BucketWork, Kept
from sto_engine.capacity_report import load_before, summary_blocks
from sto_engine.config import Config
from sto_engine.config_file import overlay
from sto_engine.errors import ConfigError, UsageError
from sto_engine.executor import Executor, Threads
from sto_engine.phases import Phases
from sto_engine.prepare import ScoreRequest, check_limits, prepare, scratch
from sto_engine.progress import Progress
from sto_engine.rounds import Priced, Rounds, bins_of

# what a scenario may change: scoring does not depend on it
VARIED = ("capacity.", "spread.")
FIXED = ("capacity.weight",)


@dataclass(frozen=True)
class Scenario:
    """Limits to try: `name` tells what differs from the configuration."""

    name: str
    config: Config


def scenarios(config: Config, varied: Sequence[str]) -> list[Scenario]:
    """The configuration as it is, and once more for each override of `varied`, "KEY=VALUE[;KEY=VALUE...]".

    Raises UsageError (2) for a key that changes more than limits, ConfigError (78) for a value that is none.
    """
    found = [Scenario("as configured", config)]
    for text in varied:
        parts = [part.strip() for part in text.split(";") if part.strip()]
        for part in parts:
            key = part.partition("=")[0].strip()
            if not key.startswith(VARIED) or key.startswith(FIXED):
                raise UsageError(
                    "--vary expects keys of [capacity] (but weight) or [spread], such as capacity.total=500000/h; "
                    f'found "{part}"; set others by --set'
                )
        found.append(Scenario(text, overlay(config, parts)))
    return found


def what_if(
    request: ScoreRequest, tried: Sequence[Scenario], progress: Progress, executor: Executor | None = None
) -> dict[str, Any]:
    """What each scenario comes to: expected opens, who moves, peak rates, what limits cost; the first in full.

    Raises what `score` raises for inputs; a scenario whose limits cannot hold the mail is told in its row.
    `executor` is that of `run_score`.
    """
    executor = executor or Threads(request.threads)
    prepared = prepare(request, tried[0].config, progress, executor.on_gpu)
    for scenario in tried[1:]:
        check_limits(scenario.config, prepared.plan.store)
    plan = replace(prepared.plan, config=_all_limits(tried), what_if=True)
    with TemporaryDirectory(prefix="sto-engine-plan-", dir=scratch(plan, executor)) as folder:
        run = Path(folder)
        phases = Phases(BucketWork(plan, run, prepared.run_id, kept=Kept(KEEP_BYTES)), executor, progress)
        priors, census = phases.priors(), phases.demand()
        staged = phases.stage_all(priors, census.mean_weight)
        rows = []
        for number, scenario in enumerate(tried):
            own = replace(plan, config=scenario.config)
            named = f"settle-{number}"
            rounds = Rounds(own, run, executor, progress, staged, census.past, keep=False, name=named)
            rows.append(_try(scenario.name, rounds))
    total = staged.counts
    return {
        "date": plan.date.isoformat(),
        "policy": plan.policy.name,
        "recipients": sum(total.reason.values()),
        "suppressed": dict(sorted(total.suppressed.items())),
        "scenarios": [row for row, _ in rows],
        **rows[0][1],
        "warnings": prepared.warnings,
    }


def _all_limits(tried: Sequence[Scenario]) -> Config:
    """The first configuration with the providers and channels that any scenario limits, for the counts of demand."""
    config = tried[0].config
    providers = {
        name: rate for scenario in reversed(tried) for name, rate in scenario.config.capacity.providers.items()
    }
    warmup = {name: ramp for scenario in reversed(tried) for name, ramp in scenario.config.capacity.warmup.items()}
    channels = {name: rate for scenario in reversed(tried) for name, rate in scenario.config.capacity.channels.items()}
    update = {"providers": providers, "channels": channels, "warmup": warmup}
    capacity = config.capacity.model_copy(update=update)
    return config.model_copy(update={"capacity": capacity})


def _try(scenario: str, rounds: Rounds) -> tuple[dict[str, Any], dict[str, Any]]:
    """The row of a scenario, and the details that are shown of the first."""
    try:
        priced = rounds.price()
    except ConfigError as error:
        return {**_EMPTY, "scenario": scenario, "fits": False, "notes": [str(error)]}, {}
    bins = bins_of(priced.window_minutes)
    before, after = (load_before(counts.spread, bins) for counts in (rounds.staged.counts, priced.counts))
    told = summary_blocks(priced, before, after)
    return _row(scenario, priced, told), told


_EMPTY: dict[str, Any] = {
    "scenario": "",
    "fits": True,
    "expected_opens": None,
    "lost_share": None,
    "moved": None,
    "deferred": None,
    "peak_per_second": None,
    "window_minutes": None,
    "gap": None,
    "notes": [],
}


def _row(scenario: str, priced: Priced, told: dict[str, Any]) -> dict[str, Any]:
    block = told["capacity"]
    opens = block["expected_opens"]
    lost = 1 - opens["planned"] / opens["unlimited"] if opens["unlimited"] else None
    fits: Feasibility = priced.feasibility
    return {
        **_EMPTY,
        "scenario": scenario,
        "fits": fits.is_feasible,
        "expected_opens": opens["planned"],
        "lost_share": lost if lost is None else round(lost, 6),
        "moved": block["moved"],
        "deferred": block["deferred"],
        "peak_per_second": told["peaks_per_second"][TOTAL]["after"],
        "window_minutes": priced.window_minutes,
        "gap": block["gap"],
        "notes": priced.notes,
    }
