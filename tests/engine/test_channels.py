"""What is told of channels one at a time: who is reached where, whose history is whose, what limits take."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.optimize import linprog
from scipy.sparse import coo_array

from limited import hashes, in_parts
from sto_engine.assign.census import OTHERS, Census
from sto_engine.assign.channels import Options, limits_of
from sto_engine.assign.in_memory import solve_in_memory
from sto_engine.assign.market import make_market
from sto_engine.config import load_config
from sto_engine.history.channels import bucket_by_channel
from sto_engine.history.users import build_users
from sto_engine.models.channels import own_rates
from sto_engine.suppress import suppressions_by_channel
from sto_engine.tables import EVENT_ENUM, hash_ids
from sto_kernels.count_walk import count, unopened_kernel
from sto_kernels.limits import counts_GS
from sto_kernels.offers import offers_of

NOW = datetime(2026, 4, 20, tzinfo=UTC)
CHANNELS = ("email", "push")
COLUMNS = {
    "user_id": pl.UInt64,
    "campaign_id": pl.String,
    "event_type": EVENT_ENUM,
    "event_ts": pl.Datetime("ms", "UTC"),
    "channel": pl.String,
    "bounce_type": pl.String,
    "campaign_type": pl.String,
    "tz_offset": pl.Int16,
    "device_type": pl.String,
    "is_machine_open": pl.Boolean,
    "user_agent": pl.String,
    "recipient_domain": pl.String,
}


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows as a store returns them; `ago` is in hours."""
    full = [{"campaign_id": "c", **row, "event_ts": NOW - timedelta(hours=row["ago"])} for row in rows]
    frame = pl.DataFrame([{name: row.get(name) for name in COLUMNS} for row in full], COLUMNS, orient="row")
    frame = frame.with_columns(h=pl.Series(hash_ids(frame["user_id"])))
    return frame.sort("h", "user_id", "event_ts", maintain_order=True)


def people(*ids: int, found: pl.DataFrame | None = None) -> pl.DataFrame:
    frame = pl.DataFrame({"user_id": pl.Series(ids, dtype=pl.UInt64)})
    frame = frame.with_columns(h=pl.Series(hash_ids(frame["user_id"]))).sort("h", "user_id").select("h", "user_id")
    seen = events({"user_id": ids[0], "event_type": "send", "ago": 1}) if found is None else found
    return build_users(frame, None, seen, load_config(None, []), int(NOW.timestamp() * 1000))


@pytest.mark.parametrize(
    ("stop", "reached", "reason"),
    [
        ({"event_type": "unsubscribe", "channel": "push"}, [True, False], None),
        ({"event_type": "unsubscribe", "channel": "email"}, [False, True], None),
        ({"event_type": "unsubscribe"}, [False, False], "unsubscribed"),
        ({"event_type": "complaint"}, [False, False], "complaint"),
        ({"event_type": "bounce", "bounce_type": "hard"}, [False, True], None),
        ({"event_type": "bounce", "bounce_type": "hard", "channel": "push"}, [True, False], None),
        ({"event_type": "bounce", "bounce_type": "soft"}, [True, True], None),
        ({"event_type": "unsubscribe", "channel": "sms"}, [True, True], None),
    ],
)
def test_a_stop_closes_the_channel_that_it_came_by(
    stop: dict[str, Any], reached: list[bool], reason: str | None
) -> None:
    sent = {"user_id": 7, "event_type": "send", "channel": "push", "ago": 9}
    found = events(sent, {"user_id": 7, "ago": 3, **stop})
    why, reach_UC = suppressions_by_channel(people(7), found, CHANNELS, {})
    assert (reach_UC[0].tolist(), why[0]) == (reached, reason)


def test_an_open_belongs_to_the_send_of_its_own_channel_and_quick_readers_of_pushes_are_no_machines() -> None:
    rows = []
    for number in range(20):
        ago, name = 24 * (number + 1), f"c{number}"
        rows += [
            {"user_id": 7, "campaign_id": name, "event_type": "send", "channel": channel, "ago": ago}
            for channel in (None, "push")
        ]
        rows.append({"user_id": 7, "campaign_id": name, "event_type": "open", "channel": "push", "ago": ago - 0.01})
    found = events(*rows)
    end = int(NOW.timestamp() * 1000)
    bucket = bucket_by_channel(found, people(7), load_config(None, []), CHANNELS, (end - 90 * 86_400_000, end))
    assert bucket.channel_C is not None
    channel_S = bucket.channel_C[bucket.cleaned.campaign_S]
    assert np.bincount(channel_S, minlength=3).tolist() == [20, 20, 0]
    assert (bucket.cleaned.latency_S[channel_S == 1] == 36_000).all()
    assert (bucket.cleaned.latency_S[channel_S == 0] < 0).all()
    assert bucket.cleaned.machine_U.tolist() == [0]
    assert (np.diff(bucket.cleaned.utc_S) >= 0).all()
    assert (np.diff(bucket.campaign_key_C.astype(np.float64)) > 0).all()


def test_a_channel_without_data_has_the_users_own_shape_and_one_with_much_its_own() -> None:
    found = events({"user_id": 7, "event_type": "send", "channel": "push", "ago": 30})
    end = int(NOW.timestamp() * 1000)
    bucket = bucket_by_channel(found, people(7), load_config(None, []), CHANNELS, (end - 90 * 86_400_000, end))
    decay = np.ones(24)
    counts = count(bucket.cleaned, 1, np.ones(1), np.ones(1), decay, unopened_kernel(decay), end)
    usual_48U = np.linspace(0.01, 0.05, 48)[:, None]
    none = type(counts)(**{**counts.__dict__, "exposure_U48": np.zeros((1, 48), np.float32)})
    np.testing.assert_allclose(own_rates(none, usual_48U, 20.0), usual_48U)
    opens = np.zeros((1, 48), np.float32)
    opens[0, 8] = 4_000
    much = type(counts)(**{**counts.__dict__, "opens_U48": opens, "exposure_U48": np.full((1, 48), 40_000, np.float32)})
    assert own_rates(much, usual_48U, 20.0)[:, 0].argmax() == 8


def test_options_are_slots_channel_by_channel() -> None:
    options = Options(("email", "push", "sms"), 48)
    option_U = np.array([0, 47, 48, 143], np.uint8)
    assert options.slot_of(option_U).tolist() == [0, 47, 0, 47]
    assert options.channel_of(option_U).tolist() == [0, 0, 1, 2]
    names, lane_CP = options.lanes(["gmail", "other"])
    assert names == ["gmail", "other", "channel:push", "channel:sms"]
    assert lane_CP.tolist() == [[0, 1], [2, 2], [3, 3]]
    assert limits_of("gmail", options.channels) == ("gmail", "channel:email")
    assert limits_of("channel:sms", options.channels) == ("channel:sms",)


def test_limits_of_channels_and_in_total_are_within_a_hair_of_the_exact_program() -> None:
    users, rng = 400, np.random.default_rng(4)
    worth_UO = rng.random((users, 48)).astype(np.float32) * np.repeat([0.5, 1.0], 24).astype(np.float32)
    midnight = int(datetime(2026, 4, 20, tzinfo=UTC).timestamp() * 1000)
    starts = tuple(midnight + hour * 3_600_000 for hour in (*range(24), *range(24)))
    census = Census()
    census.free[starts, OTHERS, 2**48 - 1] = users
    limits = load_config(None, ['capacity.channels={push="8/h",email="16/h"}', 'capacity.total="20/h"']).capacity
    market = make_market(limits, census, 48, 4, {}, channels=CHANNELS)
    offers = offers_of(worth_UO, np.ones((users, 48), np.bool_), np.zeros(users, np.int32), hashes(users))
    plan, slots = solve_in_memory(in_parts(offers, 4), market.limits, market.stratum_G)
    n_O = counts_GS(offers.group_U, np.concatenate(slots), 1, 48)[0]
    assert n_O.sum() == users
    assert (n_O[24:] <= 8).all()
    assert (n_O[:24] <= 16).all()
    assert (n_O[:24] + n_O[24:] <= 20).all()
    optimum = _optimum(worth_UO)
    assert plan.value <= optimum + 1e-4 * users
    assert plan.value >= 0.999 * optimum
    assert plan.bound >= optimum - 1e-4 * users


def _optimum(worth_UO: np.ndarray[Any, Any]) -> float:
    """The linear program over users, options and the three limits of each hour; its vertices are whole numbers."""
    users, options = worth_UO.shape
    user_N, option_N = np.divmod(np.arange(users * options), options)
    hour_N = option_N % 24
    columns = np.arange(users * options)
    rows = np.concatenate([option_N, 48 + hour_N])
    limits = coo_array((np.ones(2 * len(columns)), (rows, np.tile(columns, 2))), shape=(72, len(columns)))
    once = coo_array((np.ones(len(columns)), (user_N, columns)), shape=(users, len(columns)))
    room = np.repeat([16.0, 8.0, 20.0], 24)
    found = linprog(-worth_UO.ravel(), A_ub=limits, b_ub=room, A_eq=once, b_eq=np.ones(users), method="highs")
    return -float(found.fun)
