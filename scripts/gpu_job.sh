#!/usr/bin/env bash
# Runs everything that needs a GPU, unattended and within a time limit: speed benchmarks, every table and
# figure at the paper's size, then the best recipe, the steps to it and large codebooks. Trains several
# models in parallel. Resumes where it stopped.
# Usage: scripts/gpu_job.sh DATA [OUT] [SECONDS] [JOBS]   (requires rotvq[train,bench], and CIFAR-10 in DATA)
set -uo pipefail
data=${1:?expected the path of CIFAR-10}
out=${2:-results/paper}
deadline=$((SECONDS + ${3:-3600}))
jobs=${4:-6}

# An interrupt saves every run, and the next call resumes it. The report is written either way.
within_time() {
  local left=$((deadline - SECONDS))
  ((left > 0)) && timeout --signal=INT --kill-after=60 "$left" "$@"
}

rotvq doctor --data "$data" || exit
status=0
[[ -e $out/benchmarks ]] || within_time python benchmarks/training_throughput.py --out "$out/benchmarks" || status=$?
within_time rotvq reproduce all --preset paper --data "$data" --out "$out" --jobs "$jobs" || status=$?
within_time rotvq ablate best --preset paper --data "$data" --out "$out/ablations" --jobs "$jobs" || status=$?
within_time rotvq ablate all --preset paper --data "$data" --out "$out/ablations" --jobs "$jobs" || status=$?
exit "$status"
