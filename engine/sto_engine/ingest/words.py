"""Words of files for our closed vocabularies: kinds of event, devices, campaign types, truth, consent.

Words are compared without case, spaces and marks; of "email.opened" and "email_open" the first part is left out.
"""

from collections.abc import Mapping

from sto_engine.ingest.dialect import plain
from sto_engine.tables import ADDRESS_STATUS, CAMPAIGN_TYPES, DEVICE_TYPES, EVENT_TYPES

_EVENTS = {
    "send": "send sent processed dispatched sentweeklydigest sentreengagementemail mailsent",
    "delivered": "delivered delivery",
    "open": "open opened opens uniqueopen uniqueopened firstopen",
    "click": "click clicked clicks uniqueclick clickthrough linkclick linkclicked clickedlink",
    "bounce": "bounce bounced hardbounce hardbounced softbounce softbounced dropped drop",
    "unsubscribe": "unsubscribe unsubscribed unsub optout optedout groupunsubscribe listunsubscribe",
    "complaint": "complaint complained spam spamreport spamcomplaint markedasspam abuse",
    "conversion": "conversion converted purchase purchased order ordered",
}
_BOUNCES = {
    **dict.fromkeys(("hardbounce", "hardbounced"), "hard"),
    **dict.fromkeys(("softbounce", "softbounced"), "soft"),
    **dict.fromkeys(("dropped", "drop"), "dropped"),
}
_PARTS = ("email", "mail", "message", "event")
_DEVICES = {
    "desktop": "desktop computer pc laptop web webmail",
    "mobile": "mobile phone smartphone mobilephone",
    "tablet": "tablet ipad",
}
_CAMPAIGNS = {
    "promo": "promo promotion promotional marketing newsletter bulk",
    "transactional": "transactional transaction",
    "trigger": "trigger triggered automated automation",
}
_TRUE = "true 1 yes y t on optin optedin subscribed granted given allowed"
_FALSE = "false 0 no n f off optout optedout unsubscribed denied withdrawn revoked refused"


def _table(words: Mapping[str, str], kinds: tuple[str, ...]) -> dict[str, int]:
    return {word: kinds.index(kind) for kind, text in words.items() for word in text.split()}


_EVENT_CODES = _table(_EVENTS, EVENT_TYPES)
_DEVICE_CODES = _table(_DEVICES, DEVICE_TYPES)
_CAMPAIGN_CODES = _table(_CAMPAIGNS, CAMPAIGN_TYPES)
TRUTH = {**dict.fromkeys(_TRUE.split(), True), **dict.fromkeys(_FALSE.split(), False)}


def event_code(word: str, mapped: Mapping[str, str]) -> int | None:
    """Index in EVENT_TYPES of what a file calls an event; `mapped` is [ingest.event_types] with plain words."""
    bare = plain(word)
    if bare in mapped:
        return EVENT_TYPES.index(mapped[bare])
    return _EVENT_CODES.get(_without_part(bare))


def bounce_type(word: str) -> str | None:
    """What the word for an event says of a bounce: hard, soft, dropped, or nothing."""
    return _BOUNCES.get(_without_part(plain(word)))


def _without_part(bare: str) -> str:
    if bare not in _EVENT_CODES:
        for part in _PARTS:
            if bare.startswith(part) and bare[len(part) :] in _EVENT_CODES:
                return bare[len(part) :]
    return bare


def device_code(word: str) -> int | None:
    """Index in DEVICE_TYPES."""
    return _DEVICE_CODES.get(plain(word))


def campaign_code(word: str) -> int | None:
    """Index in CAMPAIGN_TYPES."""
    return _CAMPAIGN_CODES.get(plain(word))


def truth(word: str) -> bool | None:
    """Yes or no."""
    return TRUTH.get(plain(word))


def address_status(word: str) -> str | None:
    """One of ADDRESS_STATUS, in any case."""
    bare = word.casefold()
    return bare if bare in ADDRESS_STATUS else None
