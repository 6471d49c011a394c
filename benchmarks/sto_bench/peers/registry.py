"""The peers by name. Own-model peers have forests of the same shape, trained by themselves on the same rows."""

from functools import partial

from sto_bench.contest import Contestant
from sto_bench.ours import our_contestant
from sto_bench.peers import lightgbm_peer, lleaves_peer, nvforest_peer, onnxruntime_peer, xgboost_peer, ydf_peer
from sto_bench.peers.base import Peer
from sto_bench.verify import PEER_TOLERANCE, Oracle, check_choice, check_finite
from sto_bench.worlds import World

_ALL = (
    Peer("xgboost", xgboost_peer.build, is_same_model=True),
    Peer("xgboost-expand", xgboost_peer.build, is_same_model=True, include_expansion=True),
    Peer("lightgbm", lightgbm_peer.build, is_same_model=False),
    Peer("lleaves", lleaves_peer.build, is_same_model=False),
    Peer("onnxruntime", onnxruntime_peer.build, is_same_model=True),
    Peer("ydf", ydf_peer.build, is_same_model=False),
    Peer("nvforest", nvforest_peer.build, is_same_model=True),
)
PEERS = {peer.name: peer for peer in _ALL}
GATHER = "gather"
NAMES = (*PEERS, GATHER)


def peer_contestant(world: World, oracle: Oracle, name: str, threads: int) -> Contestant:
    """The named peer as a contestant; "gather", our own first kernel, is one too. Raises ValueError for other names."""
    if name == GATHER:
        return our_contestant(world, oracle, GATHER, threads, is_ours=False)
    if name not in PEERS:
        raise ValueError(f"peer must be one of {', '.join(NAMES)}; found {name}")
    peer, slots = PEERS[name], world.case.slots
    return Contestant(
        name,
        is_ours=False,
        prepare=partial(peer.build, world, threads, peer.include_expansion),
        check=partial(check_choice, oracle, tolerance=PEER_TOLERANCE)
        if peer.is_same_model
        else partial(check_finite, slots=slots),
    )
