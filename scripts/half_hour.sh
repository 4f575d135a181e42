#!/usr/bin/env bash
# The runs behind results/half_hour: three on CIFAR-10, half an hour each on 2 cores. Resumes where it
# stopped. Usage: scripts/half_hour.sh DATA   (the archive, batches or Parquet folder of CIFAR-10)
set -euo pipefail
data=${1:?expected the path of CIFAR-10}
train() {
  local out=results/half_hour/$1
  shift
  rotvq train --preset cpu --data "$data" --out "$out" --resume "$@"
}
train straight_through --quantizer.estimator straight_through
train rotation
train rotation_restart --quantizer.init data --quantizer.restart 0.03
rotvq report results/half_hour/straight_through results/half_hour/rotation results/half_hour/rotation_restart \
  --out results/half_hour
