"""The worlds by name. They are for tests and planning; what a policy gains in one is never evidence of lift.

A world invents how people come to open mail, so it can only show whether a method finds what was put in.
"""

from sto_engine.simulate import attention, blend, dirty, drift, mail_types, send_hour, sparse
from sto_engine.simulate.scene import World

WORLDS = {
    "attention": World("people look at their inbox at hours of their own and open what is fresh", attention.draw),
    "send_hour": World("the hour of sending decides; open times carry no information", send_hour.draw),
    "sparse": World(
        "little mail, few opens, checks by the clock, many newcomers",
        sparse.draw,
        campaigns=0.3,
        service=0.05,
        newcomers=0.4,
    ),
    "drift": World("habits and homes change within the history", drift.draw),
    "dirty": World("dead addresses, machine opens, wrong zones, doubled and lost rows", dirty.draw),
    "types": World("order mail is opened at once, promos at leisure", mail_types.draw, campaigns=0.5, service=1.3),
    "blend": World("each user is of one of the other worlds", blend.draw),
}
