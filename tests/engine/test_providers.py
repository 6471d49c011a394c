"""Whose mailbox a domain is, by the shipped map and by that of a sender."""

from pathlib import Path

import polars as pl
import pytest

from histories import known, people, store_of
from sto_engine.config import Config, load_config
from sto_engine.errors import ConfigError
from sto_engine.history.providers import PROVIDER_OF, known_providers, provider_map, providers_of


def text(*values: str | None) -> pl.Series:
    return pl.Series(values, dtype=pl.String)


def own(providers: dict[str, tuple[str, ...]]) -> Config:
    config = load_config(None)
    return config.model_copy(update={"recipients": config.recipients.model_copy(update={"providers": providers})})


@pytest.mark.parametrize(
    ("provider", "domains"),
    [
        ("gmail", "gmail.com googlemail.com"),
        ("microsoft", "outlook.com hotmail.com hotmail.co.uk live.nl msn.com outlook.de"),
        ("yahoo", "yahoo.com yahoo.fr yahoo.co.in yahoo.com.br aol.com aol.de verizon.net att.net cox.net sky.com"),
        ("apple", "icloud.com me.com mac.com"),
        ("gmx", "gmx.de gmx.at gmx.net web.de"),
        ("netease", "163.com 126.com"),
        ("wp", "wp.pl o2.pl"),
        ("onet", "onet.pl op.pl"),
        ("orange", "orange.fr wanadoo.fr"),
        ("yahoo_japan", "yahoo.co.jp"),
        ("other", "example.com gmail.co mail.gmail.com com"),
    ],
)
def test_domains_belong_to_who_receives_their_mail(provider: str, domains: str) -> None:
    found = providers_of(text(*[None] * len(domains.split())), text(*domains.split()))
    assert found.to_list() == [provider] * len(domains.split())


def test_the_shipped_map_holds_domains_once_in_lower_case() -> None:
    config = own({provider: () for provider in PROVIDER_OF.values()})
    assert provider_map(config) == PROVIDER_OF
    again = own({p: tuple(d for d, owner in PROVIDER_OF.items() if owner == p) for p in PROVIDER_OF.values()})
    assert provider_map(again) == PROVIDER_OF
    assert len(PROVIDER_OF) > 300


def test_a_name_that_the_sender_gives_goes_first_whatever_its_case() -> None:
    found = providers_of(text(" Acme", "GMAIL ", None, "", "  "), text("gmail.com", None, "Web.de ", "aol.com", None))
    assert found.to_list() == ["acme", "gmail", "gmx", "yahoo", "other"]
    assert providers_of(text("A", "b"), text(None, None)).to_list() == ["a", "b"]
    assert providers_of(text(), text()).to_list() == []


def test_no_provider_is_named_as_all_mail_is() -> None:
    found = providers_of(text("total", " Total ", "totals", None), text("gmail.com", None, "x.com", "gmail.com"))
    assert found.to_list() == ["other", "other", "totals", "gmail"]
    assert providers_of(text("TOTAL"), text(None)).to_list() == ["other"]
    assert "total" not in known_providers(load_config(None))


def test_a_sender_adds_domains_and_moves_them() -> None:
    config = own({"acme": ("acme.com", "mail.acme.com"), "cox": ("cox.net",), "other": ("libero.it",), "idle": ()})
    known = provider_map(config)
    domains = text("acme.com", "ACME.com", "mail.acme.com", "cox.net", "libero.it", "aol.com", "x.acme.com")
    found = providers_of(text(*[None] * 7), domains, known)
    assert found.to_list() == ["acme", "acme", "acme", "cox", "other", "yahoo", "other"]
    names = known_providers(config)
    assert {"acme", "cox", "idle", "other", "gmail"} <= names
    assert known_providers(load_config(None)) == {*PROVIDER_OF.values(), "other"}


@pytest.mark.parametrize(
    ("providers", "words"),
    [
        ({"Acme": ("acme.com",)}, ["Acme", "lower case"]),
        ({"ac me": ("acme.com",)}, ["ac me", "spaces"]),
        ({"": ("acme.com",)}, ["names"]),
        ({"total": ("acme.com",)}, ['"total"', "all mail", "another name"]),
        ({"Total": ("acme.com",)}, ["Total", "lower case"]),
        ({"acme": ("Acme.com",)}, ["recipients.providers.acme", "Acme.com"]),
        ({"acme": ("acme",)}, ["acme.com"]),
        ({"acme": ("*.acme.com",)}, ["*.acme.com"]),
        ({"acme": ("joe@acme.com",)}, ["joe@acme.com"]),
        ({"acme": (" acme.com",)}, [" acme.com"]),
        ({"acme": ("acme..com",)}, ["acme..com"]),
        ({"acme": ("",)}, ["domains"]),
        ({"a": ("acme.com",), "b": ("acme.com",)}, ["acme.com", "both a and b"]),
    ],
)
def test_what_is_no_map_is_refused_by_name(providers: dict[str, tuple[str, ...]], words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        provider_map(own(providers))
    assert error.value.exit_code == 78
    assert all(word in str(error.value) for word in words)


def test_the_domains_of_a_sender_reach_his_recipients(tmp_path: Path) -> None:
    store = store_of([], tmp_path, people([1, 2, 3], recipient_domain=["acme.com", "gmail.com", None]))
    users = known(store, config=own({"acme": ("acme.com",)}), everyone=True).users
    assert dict(users.select("user_id", "provider").iter_rows()) == {1: "acme", 2: "gmail", 3: "other"}
