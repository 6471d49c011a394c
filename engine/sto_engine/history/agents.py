"""Which user agents are no person: clients that fetch mail unasked, link scanners, bots; judged by distinct string.

    proxy     fetches an image when a person opens the mail, for his privacy: Gmail, Yahoo
    prefetch  fetches every mail at delivery: Apple's Mail Privacy Protection, whose agent is a bare "Mozilla/5.0"
    scanner   opens links before the recipient does: mail gateways
    bot       crawlers, previews of messengers, scripts

Reports differ on how often a proxy fetches unasked too, so behaviour decides: one whose opens come at once is a
prefetching client (journal.PREFETCH), other opens count. `clean.image_proxies = "machine"` drops them all.
"""

import polars as pl

KINDS = ("person", "proxy", "prefetch", "scanner", "bot")
# of several that match, the last in the order of KINDS holds; patterns ignore case
_PATTERNS = {
    "proxy": r"googleimageproxy|ggpht\.com|yahoomailproxy|yahoocachesystem",
    "prefetch": r"^\s*mozilla/5\.0\s*$|apple-mail-privacy|mail privacy protection",
    "scanner": (
        r"safelinks|barracuda|mimecast|proofpoint|urldefense|messagelabs|ironport|fireeye|forcepoint|trendmicro|"
        r"trend micro|sophos|fortimail|zscaler|cloudmark|bitdefender|microsoft-atp|defender for office"
    ),
    # "[^u]bot": Cubot makes telephones
    "bot": (
        r"(?:^|[^u])bots?(?:$|[^a-z])|crawler|spider|slurp|preview|facebookexternalhit|headlesschrome|phantomjs|"
        r"python-requests|python-urllib|aiohttp|go-http-client|libwww-perl|apache-httpclient|^curl/|^wget/|^java/|pingdom|uptime"
    ),
}


def agent_kinds(names: pl.Series) -> pl.Series:
    """Kind of each user agent, one of KINDS; null is a person -> String series [N]."""
    kind = pl.lit(KINDS[0])
    for name, pattern in _PATTERNS.items():
        kind = pl.when(pl.col("agent").str.contains(f"(?i){pattern}")).then(pl.lit(name)).otherwise(kind)
    return names.to_frame("agent").select(kind.alias("kind")).to_series()


def by_machine(agents: pl.Series, proxies_are_machines: bool) -> pl.Series:
    """Whether each user agent is a machine's, judged once a distinct string; null is not -> Boolean series [N]."""
    if agents.null_count() == len(agents):
        return pl.repeat(False, len(agents), dtype=pl.Boolean, eager=True)
    names = agents.drop_nulls().unique()
    people = ["person"] if proxies_are_machines else ["person", "proxy"]
    machines = names.filter(~agent_kinds(names).is_in(people))
    return agents.is_in(machines.implode()).fill_null(False)
