"""Exact contributions of features by XGBoost itself, in a process of its own: the engine never loads a model into it.

Run as `python -m sto_engine.explain.child`: JSON on stdin, one JSON line on stdout.

    in   {"forest": base64 of UBJSON, "features": [F names], "rows": [[F numbers, null where unknown], ...]}
    out  {"contributions": [[F + 1 numbers], ...]}, the last of each row the forest's own mean; or {"missing": why}
"""

import base64
import json
import sys
from typing import Any

import numpy as np


def main() -> None:
    """Answer the one question on stdin."""
    print(json.dumps(_answer(json.load(sys.stdin))))


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        import xgboost
    except ImportError as error:
        return {"missing": str(error)}
    booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(base64.b64decode(question["forest"])))
    rows_NF = np.array(question["rows"], np.float32)  # null becomes NaN, which is what XGBoost takes for unknown
    data = xgboost.DMatrix(rows_NF, feature_names=question["features"], nthread=1)
    return {"contributions": booster.predict(data, pred_contribs=True).tolist()}


if __name__ == "__main__":
    main()
