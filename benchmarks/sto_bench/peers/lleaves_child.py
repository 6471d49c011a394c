"""The other end of lleaves_peer.py, run by the Python that has lleaves; imports nothing of ours.

Reads one JSON object a line and answers each with one: {"compile": model, "cache": path, "threads": n},
{"load": rows.npy}, {"time": calls, "to": margins.npy}. An answer with "error" ends it.
"""

import importlib
import json
import resource
import sys
import time
from typing import Any

import numpy


class _Server:
    def __init__(self) -> None:
        self.model: Any = None
        self.rows: Any = None
        self.threads = 1

    def answer(self, ask: dict[str, Any]) -> dict[str, Any]:
        if "compile" in ask:
            return self.compile(ask["compile"], ask["cache"], ask["threads"])
        if "load" in ask:
            self.rows = numpy.load(ask["load"])
            return {"rows": len(self.rows)}
        return self.time(ask["time"], ask["to"])

    def compile(self, model: str, cache: str, threads: int) -> dict[str, Any]:
        self.threads = threads
        self.model = importlib.import_module("lleaves").Model(model_file=model)
        began = time.perf_counter()
        # float32 spares it the conversion of every row; margins spare it the sigmoid
        self.model.compile(cache=cache, raw_score=True, use_fp64=False)
        return {"compile_s": time.perf_counter() - began}

    def time(self, calls: int, to: str) -> dict[str, Any]:
        began = time.perf_counter()
        for _ in range(calls):
            margins = self.model.predict(self.rows, n_jobs=self.threads)
        elapsed_s = time.perf_counter() - began
        numpy.save(to, margins)
        return {"elapsed_s": elapsed_s, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    server = _Server()
    for line in sys.stdin:
        try:
            answer = server.answer(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
