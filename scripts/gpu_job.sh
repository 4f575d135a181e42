#!/usr/bin/env bash
# Everything that wants a GPU, unattended and within a time limit: what the quantizer costs, every table
# and figure at the paper's size, then the best recipe, the ladder to it and large codebooks. Several
# models are trained side by side. Goes on where it stopped.
# Usage: scripts/gpu_job.sh DATA [OUT] [SECONDS] [JOBS]   (needs rotvq installed, and CIFAR-10 in DATA)
set -uo pipefail
data=${1:?expected where CIFAR-10 lies}
out=${2:-results/paper}
deadline=$((SECONDS + ${3:-3600}))
jobs=${4:-6}

# The interrupt saves every run; the next call goes on. A report over what is done comes either way.
within_time() {
  local left=$((deadline - SECONDS))
  ((left > 0)) && timeout --signal=INT --kill-after=60 "$left" "$@"
}

rotvq doctor --data "$data"
[[ -e $out/benchmarks ]] || python benchmarks/training_throughput.py --steps 50 --out "$out/benchmarks"
within_time rotvq reproduce all --preset paper --data "$data" --out "$out" --jobs "$jobs"
within_time rotvq ablate best --preset paper --data "$data" --out "$out/ablations" --jobs "$jobs"
within_time rotvq ablate all --preset paper --data "$data" --out "$out/ablations" --jobs "$jobs"
