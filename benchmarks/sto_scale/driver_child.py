"""A process of `driver`: `capture` does the work of one bucket, `drive` runs the driver over many stubs, `open` opens.

python -m sto_scale.driver_child '{"what": "drive", "store": DIR, "bundle": DIR, "out": DIR, "templates": FILE}'
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sto_engine.config import load_config
from sto_engine.ingest.store import Store
from sto_engine.job import ScoreRequest, run_score
from sto_engine.progress import Silent
from sto_scale.stub import Capturing, Stub


def main(request: Mapping[str, Any]) -> dict[str, Any]:
    """What was found, as figures."""
    templates = Path(request["templates"])
    night = ScoreRequest(Path(request["store"]), Path(request["out"]), bundle=Path(request["bundle"]), threads=1)
    if request["what"] == "capture":
        capturing = Capturing()
        run_score(night, load_config(None, []), Silent(), capturing)
        templates.write_text(json.dumps(capturing.templates))
        return {}
    opened_s, store = _timed(lambda: Store.open(night.store))
    opened = {"store_manifest_bytes": (night.store / "manifest.json").stat().st_size, "store_open_s": opened_s}
    if request["what"] == "open":
        return {"buckets": store.buckets, "seconds": opened_s, "stages": {}, "figures": opened}
    stub = Stub(json.loads(templates.read_text()))
    seconds, result = _timed(lambda: run_score(night, load_config(None, []), Silent(), stub))
    assert result.run_dir is not None
    manifest = result.run_dir / "manifest.json"
    parsed_s, body = _timed(lambda: json.loads(manifest.read_bytes()))
    return {
        "buckets": store.buckets,
        "audience": result.summary["counts"]["audience"],
        "seconds": seconds,
        "stages": {**result.summary["timings_s"], "pretending": stub.seconds},
        "figures": {
            "driver_ms_a_bucket": (seconds - stub.seconds) / store.buckets * 1e3,
            "files_in_staging": stub.records + stub.files,
            "records_bytes": stub.bytes,
            "manifest_bytes": manifest.stat().st_size,
            "manifest_parse_s": parsed_s,
            "files_named": len(body["files"]),
            **opened,
        },
    }


def _timed(work: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
