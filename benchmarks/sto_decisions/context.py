"""`python -m sto_decisions.context`: what the type of a campaign and a country's days off are worth, as JSON lines.

    types      world `types`: triggers scored as promos and as triggers, judged by the truth of triggers
    holidays   world `drift`: its holiday weeks stated by a calendar, or not; judged on an ordinary day and on a holiday
    weekends   world `attention`, a third of it moved a day earlier and called Egypt: Fridays are its Saturdays

Simulated senders show what the engine does in the world that was put in, never evidence of lift.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sto_decisions.engine import COMMON, make_store
from sto_engine.config import Config, load_config
from sto_engine.evaluate.assignments import read_sent
from sto_engine.evaluate.measures import captured
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_engine.simulate.chunk import CHUNK_USERS, draw_cast
from sto_engine.simulate.mail_types import ByType
from sto_engine.simulate.people import COUNTRIES
from sto_engine.simulate.run import CAMPAIGNS_PER_DAY, END, make_plan, simulate
from sto_engine.train_job import train

DAYS, DAY_H, FIXED_HOUR, WEEK_H = 90, 24, 10, 168
POLICIES = ("attention", "boosted")
Line = dict[str, Any]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sender:
    """A simulated sender in a folder of its own, its truth by hour of the week, and who is judged."""

    folder: Path
    world: str
    seed: int
    users: int
    truth: pl.DataFrame

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def decide(self, name: str, day: date, keys: tuple[str, ...], campaign_type: str = "promo") -> pl.DataFrame:
        """Slots of everyone by the policy, trained under the same settings where it has to be."""
        config, bundle = _config(name, keys), None
        if name == "boosted":
            bundle = self.folder / f"bundle-{len(list(self.folder.iterdir()))}"
            train(self.store, bundle, END, config, 2, self.seed, None, Silent(), force=True)
        request = ScoreRequest(self.store, self.folder / "runs", bundle, day, campaign_type=campaign_type)
        done = run_score(request, config, Silent())
        assert done.run_dir is not None
        return read_sent(done.run_dir).rows.select("user_id", "slot", "tz_offset")

    def judge(self, rows: pl.DataFrame, p_UH: dict[str, Floats], first_U: NDArray[np.int64]) -> Line:
        """Captured lift where each user's day begins at an hour of the truth's week, [U] of the truth."""
        mine = self.truth.with_row_index("row").filter("eligible").join(rows, on="user_id", how="inner")
        apart_U = (mine["true_offset"].cast(int) - mine["tz_offset"].cast(int)).to_numpy() // 60
        row_U, hour_U = mine["row"].to_numpy(), (mine["slot"].cast(int).to_numpy() + apart_U) % DAY_H
        found: Line = {"users": len(mine)}
        for horizon, week_UH in p_UH.items():
            at_U24 = (first_U[row_U, None] + np.arange(DAY_H)) % WEEK_H
            day_U24 = np.take_along_axis(week_UH[row_U].astype(np.float64), at_U24, axis=1)
            worth = day_U24[np.arange(len(mine)), hour_U], day_U24[:, FIXED_HOUR], day_U24.max(axis=1)
            found |= {f"{name}_{horizon}": value for name, value in captured(*worth).items()}
        return found

    def week_truth(self) -> dict[str, Floats]:
        return {h: np.stack(self.truth[f"p{h}_week"].to_list()).astype(np.float64) for h in ("2h", "24h")}


def _config(name: str, keys: tuple[str, ...]) -> Config:
    return load_config(None, [*COMMON, f"model.policy={name}", *keys])


def make_sender(folder: Path, world: str, seed: int, users: int) -> Sender:
    """Simulate, and read the truth; the store is made by `ingested`."""
    simulate(folder / "world", world, users, DAYS, seed, Silent())
    return Sender(folder, world, seed, users, pl.read_parquet(folder / "world" / "truth.parquet"))


def ingested(sender: Sender) -> Sender:
    world = sender.folder / "world"
    make_store(sender.store, [world / "events"], world / "recipients.parquet")
    return sender


def types(sender: Sender, policies: tuple[str, ...]) -> Iterator[Line]:
    """Triggers scored as promos and as triggers."""
    plan = make_plan("types", "few", DAYS, sender.seed, END, CAMPAIGNS_PER_DAY)
    mechanism = draw_cast(np.random.default_rng([sender.seed, 1]), plan, 0, sender.users).scene.mechanism
    assert isinstance(mechanism, ByType)
    truth = {f"{h}h": mechanism.looks.open_probability(h) for h in (2, 24)}
    first_U = np.full(sender.users, END.weekday() * DAY_H)
    ingested(sender)
    for name in policies:
        for trained, scored in (("promo", "promo"), ("promo", "trigger"), ("trigger", "trigger")):
            # without a bundle the type that is scored is the one that is learnt
            if name == "attention" and trained != scored:
                continue
            rows = sender.decide(name, END, (f"train.campaign_type={trained}",), scored)
            yield {"policy": name, "arm": f"learnt {trained}, scored {scored}", **sender.judge(rows, truth, first_U)}


def holidays(sender: Sender, policies: tuple[str, ...]) -> Iterator[Line]:
    """The world's own holiday weeks, stated in the history, on the day that is scored, or in both."""
    is_holiday = make_plan("drift", "few", DAYS, sender.seed, END, CAMPAIGNS_PER_DAY).period.is_holiday
    past = [
        (END - timedelta(days=DAYS - 7 * int(week) - day), COUNTRIES[country])
        for country, week in np.argwhere(is_holiday)
        for day in range(7)
    ]
    today = [(END + timedelta(days=day), country) for country in COUNTRIES for day in range(2)]
    truth = ingested(sender).week_truth()
    arms = {"off": [], "history": past, "scoring": today, "both": [*past, *today]}
    for name in policies:
        for arm, days in arms.items():
            rows = sender.decide(name, END, _calendar(sender.folder / f"{arm}.parquet", days))
            for what, weekday in (("ordinary day", END.weekday()), ("holiday", 5)):
                found = sender.judge(rows, truth, np.full(len(sender.truth), weekday * DAY_H))
                yield {"policy": name, "arm": arm, "scored_on": what, **found}


def _calendar(path: Path, days: list[tuple[date, str]]) -> tuple[str, ...]:
    if not days:
        return ()
    dates, regions = zip(*days, strict=True)
    rows = {"date": dates, "region": regions, "treat_as": ["weekend"] * len(days)}
    pl.DataFrame(rows).write_parquet(path)
    return (f"context.calendar={path}",)


def weekends(sender: Sender, policies: tuple[str, ...]) -> Iterator[Line]:
    """Every third user lives a day earlier and in Egypt; scored on a Friday and on a Sunday."""
    world = sender.folder / "world"
    is_moved = pl.col("user_id") % 3 == 0
    for path in (world / "events").glob("*.parquet"):
        earlier = pl.col("event_ts") - pl.duration(days=1)
        events = pl.read_parquet(path)
        events.with_columns(pl.when(is_moved).then(earlier).otherwise("event_ts").alias("event_ts")).write_parquet(path)
    recipients = pl.read_parquet(world / "recipients.parquet").with_columns(pl.col("country").cast(pl.String))
    country = pl.when(is_moved).then(pl.lit("EG")).otherwise("country").alias("country")
    recipients.with_columns(country).write_parquet(world / "recipients.parquet")
    truth, moved_U = ingested(sender).week_truth(), sender.truth.select(is_moved).to_series().to_numpy()
    for day in (END + timedelta(days=4), END + timedelta(days=6)):
        first_U = ((day.weekday() + moved_U) % 7) * DAY_H
        for name in policies:
            for arm in ("same", "country"):
                rows = sender.decide(name, day, (f"context.weekends={arm}",)).filter(is_moved)
                found = sender.judge(rows, truth, first_U)
                yield {"policy": name, "arm": arm, "scored_on": f"{day:%a}", **found}


CASES = {"types": ("types", types), "holidays": ("drift", holidays), "weekends": ("attention", weekends)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sto_decisions.context", description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--users", type=int, default=4_000, help=f"at most {CHUNK_USERS}")
    options = parser.parse_args()
    for case in options.cases.split(","):
        world, run = CASES[case]
        for seed in map(int, options.seeds.split(",")):
            with TemporaryDirectory() as folder:
                sender = make_sender(Path(folder), world, seed, options.users)
                for line in run(sender, tuple(options.policies.split(","))):
                    print(json.dumps({"case": case, "seed": seed, **line}), flush=True)


if __name__ == "__main__":
    main()
