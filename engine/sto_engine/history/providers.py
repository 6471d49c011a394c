"""Mailbox provider behind a recipient's domain; a domain that is not listed belongs to `other`."""

import polars as pl

OTHER = "other"
_DOMAINS = {
    "gmail": ("gmail.com", "googlemail.com"),
    "microsoft": ("outlook.com", "hotmail.com", "live.com", "msn.com", "hotmail.co.uk", "hotmail.fr", "live.co.uk"),
    "yahoo": ("yahoo.com", "ymail.com", "rocketmail.com", "aol.com", "yahoo.co.uk", "yahoo.fr", "yahoo.co.jp"),
    "apple": ("icloud.com", "me.com", "mac.com"),
    "comcast": ("comcast.net", "xfinity.com"),
    "gmx": ("gmx.de", "gmx.net", "gmx.com", "web.de"),
    "mailru": ("mail.ru", "bk.ru", "list.ru", "inbox.ru"),
    "yandex": ("yandex.ru", "yandex.com", "ya.ru"),
    "proton": ("proton.me", "protonmail.com", "pm.me"),
}
PROVIDER_OF = {domain: provider for provider, domains in _DOMAINS.items() for domain in domains}


def providers_of(provider: pl.Series, domain: pl.Series) -> pl.Series:
    """The named provider where the sender gives one, else that of the domain, else `other` -> String series [U]."""
    if not provider.null_count():
        return provider.alias("provider")
    names = domain.drop_nulls().unique()
    known = (
        names.str.strip_chars().str.to_lowercase().replace_strict(PROVIDER_OF, default=OTHER, return_dtype=pl.String)
    )
    mapped = known.gather(domain.cast(pl.Enum(names)).to_physical())
    return pl.select(pl.coalesce(provider, mapped, pl.lit(OTHER)).alias("provider")).to_series()
