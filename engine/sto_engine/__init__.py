"""Send-time optimisation at scale: one slot and one second for every recipient, every night."""

__version__ = "0.1.0"
