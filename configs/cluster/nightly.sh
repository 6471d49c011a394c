#!/usr/bin/env bash
# A night: ingest what has come, compact on Sundays, train when the bundle is a week old, score. It runs on a machine of
# the cluster. After any failure run it again: what is done is found done, what was under way goes on.
set -euo pipefail

root=${STO_ROOT:-/mnt/sto}
common=(--config "${STO_CONFIG:-/opt/sto-engine/configs/cluster/engine.toml}" --log-json)

sto-engine ingest "$root/incoming" --store "$root/store" --recipients "$root/recipients.parquet" "${common[@]}"

if [ "$(date -u +%u)" = 7 ]; then
  sto-engine compact --store "$root/store" "${common[@]}"
fi

# 65: the new model is no better. The night goes on with the one before, if there is one.
sto-engine train --store "$root/store" --bundle "$root/bundle" --if-older-than 7d "${common[@]}" || {
  code=$?
  if [ "$code" != 65 ] || [ ! -e "$root/bundle/bundle.json" ]; then exit "$code"; fi
}

sto-engine score --store "$root/store" --bundle "$root/bundle" --out "$root/runs" "${common[@]}"
