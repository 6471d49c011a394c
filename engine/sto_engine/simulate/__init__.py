"""Simulated senders whose true open probabilities are known: for tests and planning, never as evidence of lift."""

from sto_engine.simulate.mailing import HISTORIES
from sto_engine.simulate.run import SimulationReport, simulate
from sto_engine.simulate.worlds import WORLDS

__all__ = ["HISTORIES", "WORLDS", "SimulationReport", "simulate"]
