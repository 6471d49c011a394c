"""Names by which senders and their tools know our columns, best first, without case, spaces and underscores."""

_USER = (
    *("userid", "recipientid", "subscriberid", "contactid", "customerid", "profileid", "personid", "memberid"),
    *("subscriberkey", "contactkey", "externalid", "uid", "user"),
)
_EMAIL = ("email", "emailaddress", "recipientemail")
_OFFSET = ("tzoffset", "timezoneoffset", "utcoffset", "tzoffsetmin", "tzoffsetminutes", "utcoffsetmin")
_DOMAIN = ("recipientdomain", "emaildomain")
_ZONE = ("timezone", "tz", "tzname", "recipienttimezone", "usertimezone")

EVENT_NAMES: dict[str, tuple[str, ...]] = {
    "user_id": _USER,
    "campaign_id": (
        *("campaignid", "campaign", "mailingid", "newsletterid", "broadcastid", "emailid", "messageid"),
        *("templateid", "campaignname"),
    ),
    "event_type": ("eventtype", "event", "eventname", "action", "type"),
    "event_ts": (
        *("eventts", "eventtime", "eventtimestamp", "eventat", "eventdatetime", "occurredat", "timestamp", "ts"),
        *("time", "datetime", "createdat"),
    ),
    "tz_offset": _OFFSET,
    "device_type": ("devicetype", "device", "devicecategory"),
    "campaign_type": ("campaigntype", "mailtype"),
    "is_machine_open": ("ismachineopen", "machineopen", "sgmachineopen"),
    "recipient_domain": _DOMAIN,
    "user_agent": ("useragent", "ua"),
    # read for what is derived from them, never stored
    "email": _EMAIL,
    "ip": ("ip", "ipaddress", "clientip"),
    "timezone": _ZONE,
}
_STEMS = {
    "send_ts": ("sent", "send"),
    "delivered_ts": ("delivered", "delivery"),
    "open_ts": ("opened", "open", "firstopened", "firstopen"),
    "click_ts": ("clicked", "click", "firstclicked", "firstclick"),
    "bounce_ts": ("bounced", "bounce"),
    "unsubscribe_ts": ("unsubscribed", "unsubscribe", "unsub"),
    "complaint_ts": ("complained", "complaint", "spam"),
    "conversion_ts": ("converted", "conversion", "purchased", "purchase"),
}
_ENDINGS = ("ts", "at", "time", "timestamp", "datetime", "on")
WIDE_NAMES: dict[str, tuple[str, ...]] = {
    ours: tuple(stem + ending for stem in stems for ending in _ENDINGS) for ours, stems in _STEMS.items()
}
RECIPIENT_NAMES: dict[str, tuple[str, ...]] = {
    "user_id": (*_USER, "id"),
    "timezone": _ZONE,
    "tz_offset": _OFFSET,
    "signup_source": ("signupsource", "acquisitionsource"),
    "signup_ts": ("signupts", "signupat", "signuptime", "signupdate", "subscribedat", "createdat"),
    "country": ("country", "countrycode"),
    "consent": ("consent", "emailconsent", "marketingconsent", "optin"),
    "recipient_domain": _DOMAIN,
    "provider": ("provider", "mailboxprovider"),
    "clv": ("clv", "customerlifetimevalue", "ltv"),
    "allowed_hours": ("allowedhours", "contacthours", "sendinghours"),
    "email": _EMAIL,
}
