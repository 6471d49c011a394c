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
    mapped = (
        domain.str.strip_chars().str.to_lowercase().replace_strict(PROVIDER_OF, default=None, return_dtype=pl.String)
    )
    return provider.fill_null(mapped).fill_null(OTHER).alias("provider")
