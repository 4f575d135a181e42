#!/usr/bin/env bash
# Everything that wants a GPU, unattended and within a time limit: what the quantizer costs, then the
# paper's run for each estimator, compared in one report. Goes on where it stopped.
# Usage: scripts/gpu_job.sh DATA [OUT] [SECONDS]   (needs rotvq installed, and CIFAR-10 in DATA)
set -uo pipefail
data=${1:?expected where CIFAR-10 lies}
out=${2:-results/paper}
deadline=$((SECONDS + ${3:-3600}))
rotvq doctor --data "$data"
python benchmarks/training_throughput.py --steps 50 --out "$out/benchmarks"
runs=()
for estimator in straight_through rotation; do
  left=$((deadline - SECONDS))
  ((left > 30)) || break
  # The interrupt saves; the next call resumes.
  timeout --signal=INT --kill-after=60 "$left" rotvq train --preset paper --data "$data" \
    --out "$out/$estimator" --quantizer.estimator "$estimator" --resume
  runs+=("$out/$estimator")
done
((${#runs[@]})) && rotvq report "${runs[@]}" --out "$out"
