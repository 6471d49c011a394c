"""Simulated senders whose true open probabilities are known: for tests and planning, never as evidence of lift."""

from sto_engine.simulate.run import WORLDS, SimulationReport, simulate

__all__ = ["WORLDS", "SimulationReport", "simulate"]
