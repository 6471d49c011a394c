"""Mailbox provider behind a recipient's domain; a domain that is not listed belongs to `other`.

A provider is who receives the mail and limits its rate, not whose name a domain bears: verizon.net, att.net and cox.net
are received by Yahoo, yahoo.co.jp is not. `recipients.providers` adds domains, or moves them.
"""

import polars as pl

from sto_engine.config import Config
from sto_engine.errors import ConfigError

OTHER = "other"
ALL_MAIL = "total"  # no provider: limits and reports call all mail so


def _countries(name: str, endings: str) -> str:
    """The domains of a name that exists in many countries."""
    return " ".join(f"{name}.{ending}" for ending in endings.split())


_DOMAINS = {
    "gmail": "gmail.com googlemail.com",
    "microsoft": " ".join(
        (
            "outlook.com hotmail.com live.com msn.com passport.com windowslive.com",
            _countries(
                "outlook",
                "at be cl co.id co.il co.nz co.th com.ar com.au com.br com.gr com.pe com.tr com.vn cz de dk es fr hu "
                "ie in it jp kr lv my ph pt sa sg sk",
            ),
            _countries(
                "hotmail",
                "be ca ch cl co.il co.in co.jp co.kr co.nz co.th co.uk co.za com.ar com.au com.br com.hk com.mx com.my "
                "com.ph com.sg com.tr com.tw com.vn cz de dk es fi fr gr hu it lt lv my nl no ph rs se sg sk",
            ),
            _countries(
                "live",
                "at be ca cl cn co.kr co.uk co.za com.ar com.au com.mx com.my com.ph com.pt com.sg de dk fi fr hk ie "
                "in it jp nl no ph ru se",
            ),
        )
    ),
    "yahoo": " ".join(
        (
            "yahoo.com ymail.com rocketmail.com myyahoo.com aol.com aim.com love.com ygm.com games.com wow.com",
            "netscape.net cs.com compuserve.com verizon.net frontier.com frontiernet.net rogers.com sky.com cox.net",
            "att.net currently.com sbcglobal.net bellsouth.net ameritech.net pacbell.net swbell.net snet.net flash.net",
            "nvbell.net prodigy.net wans.net",
            _countries(
                "yahoo",
                "at be bg ca ch cl co.id co.il co.in co.kr co.nz co.th co.uk co.za com.ar com.au com.br com.co com.hk "
                "com.mx com.my com.pe com.ph com.sg com.tr com.tw com.ua com.ve com.vn cz de dk ee es fi fr gr hr hu "
                "ie in it lt lv nl no pl pt ro rs se si sk",
            ),
            _countries("aol", "at be ca ch cl co.nz co.uk com.ar com.au com.br com.mx de dk es fi fr it nl pl se"),
        )
    ),
    "yahoo_japan": "yahoo.co.jp ymail.ne.jp",
    "apple": "icloud.com me.com mac.com privaterelay.appleid.com",
    "comcast": "comcast.net xfinity.com",
    "charter": "charter.net spectrum.net rr.com twc.com roadrunner.com brighthouse.com",
    "centurylink": "centurylink.net centurytel.net embarqmail.com q.com",
    "earthlink": "earthlink.net mindspring.com",
    "gmx": "gmx.de gmx.net gmx.com gmx.at gmx.ch gmx.fr gmx.es gmx.it gmx.co.uk gmx.us gmx.eu gmx.org gmx.info gmx.biz "
    "web.de mail.com email.com",
    "t-online": "t-online.de magenta.de",
    "freenet": "freenet.de",
    "orange": "orange.fr wanadoo.fr",
    "free": "free.fr freesbee.fr libertysurf.fr aliceadsl.fr online.fr worldonline.fr infonie.fr",
    "laposte": "laposte.net",
    "sfr": "sfr.fr neuf.fr cegetel.net 9online.fr club-internet.fr numericable.fr noos.fr",
    "bouygues": "bbox.fr",
    "libero": "libero.it inwind.it iol.it blu.it giallo.it virgilio.it",
    "tim": "tim.it alice.it tin.it",
    "tiscali": "tiscali.it",
    "mailru": "mail.ru bk.ru list.ru inbox.ru internet.ru",
    "rambler": "rambler.ru lenta.ru autorambler.ru myrambler.ru ro.ru",
    "yandex": "yandex.ru yandex.com yandex.by yandex.kz yandex.ua yandex.com.tr ya.ru narod.ru",
    "ukrnet": "ukr.net",
    "proton": "proton.me protonmail.com protonmail.ch pm.me",
    "fastmail": "fastmail.com fastmail.fm",
    "zoho": "zoho.com zohomail.com zoho.in zohomail.in zoho.eu zohomail.eu",
    "naver": "naver.com",
    "kakao": "daum.net hanmail.net kakao.com",
    "nate": "nate.com",
    "qq": "qq.com vip.qq.com foxmail.com",
    "netease": "163.com vip.163.com 126.com vip.126.com yeah.net 188.com",
    "sina": "sina.com sina.cn vip.sina.com",
    "sohu": "sohu.com",
    "docomo": "docomo.ne.jp",
    "rediff": "rediffmail.com rediff.com",
    "uol": "uol.com.br bol.com.br",
    "terra": "terra.com.br",
    "seznam": "seznam.cz email.cz post.cz spoluzaci.cz",
    "wp": "wp.pl o2.pl tlen.pl go2.pl",
    "onet": "onet.pl onet.eu op.pl vp.pl poczta.onet.pl poczta.onet.eu autograf.pl spoko.pl",
    "interia": "interia.pl interia.eu poczta.fm intmail.pl",
    "bigpond": "bigpond.com bigpond.net.au",
    "bt": "btinternet.com btopenworld.com talk21.com",
    "virginmedia": "virginmedia.com ntlworld.com blueyonder.co.uk virgin.net",
    "talktalk": "talktalk.net tiscali.co.uk",
    "kpn": "kpnmail.nl kpnplanet.nl planet.nl hetnet.nl",
    "ziggo": "ziggo.nl upcmail.nl home.nl casema.nl chello.nl quicknet.nl",
    "telenet": "telenet.be",
    "proximus": "skynet.be proximus.be",
    "bluewin": "bluewin.ch",
}
PROVIDER_OF = {domain: provider for provider, domains in _DOMAINS.items() for domain in domains.split()}


def provider_map(config: Config) -> dict[str, str]:
    """Provider of each known domain: the shipped map, under what `recipients.providers` says.

    Raises ConfigError (78) for a name or a domain that is none, for the name of all mail, and for a domain that two
    providers claim.
    """
    claimed: dict[str, str] = {}
    for provider, domains in config.recipients.providers.items():
        if provider == ALL_MAIL:
            raise ConfigError(
                f'recipients.providers must not name a provider "{ALL_MAIL}", which stands for all mail in limits and '
                "reports; give it another name"
            )
        if not provider or provider != _folded(provider):
            raise ConfigError(
                "recipients.providers must map names such as acme, in lower case and without spaces; "
                f'found "{provider}"'
            )
        for domain in domains:
            if not _is_domain(domain):
                raise ConfigError(
                    f"recipients.providers.{provider} must list domains such as acme.com, in lower case and without "
                    f'spaces; found "{domain}"'
                )
            if claimed.setdefault(domain, provider) != provider:
                raise ConfigError(
                    f"recipients.providers must give each domain to one provider; found {domain} under both "
                    f"{claimed[domain]} and {provider}; remove one"
                )
    return {**PROVIDER_OF, **claimed}


def known_providers(config: Config) -> frozenset[str]:
    """Every provider that a domain may belong to, `other` included."""
    return frozenset({*provider_map(config).values(), *config.recipients.providers, *_DOMAINS, OTHER})


def _folded(name: str) -> str:
    return "".join(name.lower().split())


def _is_domain(text: str) -> bool:
    labels = text.split(".")
    return text == _folded(text) and "@" not in text and "*" not in text and len(labels) > 1 and all(labels)


def providers_of(provider: pl.Series, domain: pl.Series, known: dict[str, str] = PROVIDER_OF) -> pl.Series:
    """The named provider where the sender gives one, else that of the domain, else `other` -> String series [U].

    `known` is the map of `provider_map`. Spaces around names and their case do not matter. A provider named as all mail
    is (`total`) is `other`.
    """
    named = _tidy(provider).replace({"": None, ALL_MAIL: OTHER})
    if not named.null_count():
        return named.alias("provider")
    names = domain.drop_nulls().unique()
    owners = _tidy(names).replace_strict(known, default=OTHER, return_dtype=pl.String)
    mapped = owners.gather(domain.cast(pl.Enum(names)).to_physical())
    return pl.select(pl.coalesce(named, mapped, pl.lit(OTHER)).alias("provider")).to_series()


def _tidy(names: pl.Series) -> pl.Series:
    return names.str.strip_chars().str.to_lowercase()
