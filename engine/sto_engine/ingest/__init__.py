"""Raw events and recipients -> event store."""

from sto_engine.ingest.run import IngestReport, ingest

__all__ = ["IngestReport", "ingest"]
