#!/usr/bin/env bash
# Makes the models that ship with the package, rotvq-f4 and rotvq-f8: fetches the photographs, trains
# (one to two hours each on one core), packs the weights in half precision, measures them on
# scikit-image's photographs, and writes their model cards. Resumes where it stopped.
#
#   scripts/release.sh CIFAR10 [WORK] [MODEL...]    requires rotvq[train], scikit-image, npm and Debian 12
set -euo pipefail
cifar10=${1:?"expected CIFAR-10: scripts/release.sh cifar-10-python.tar.gz [WORK] [MODEL...]"}
work=${2:-release}
shift $(($# < 2 ? $# : 2))
(($#)) || set -- rotvq-f4 rotvq-f8
python=${PYTHON:-python}

# As many tokens in a batch as in the preset. No attention, so pictures of any size go through in tiles.
train() {
  local name=$1
  shift
  "$python" -m rotvq train --preset best --data "$work/photographs" --out "$work/$name" --resume \
    --data.random_flip true --model.network patches "$@"
}

"$python" scripts/release/crops.py "$work/photographs" --cifar10 "$cifar10" --packages "$work/packages"
for name; do
  case $name in
    rotvq-f4) train "$name" --data.size 64 --model.width 128 \
      --training.batch_size 16 --training.epochs "${EPOCHS:-7}" ;;
    rotvq-f8) train "$name" --data.size 96 --model.stages 3 --model.width 96 --model.dim 32 \
      --quantizer.codebook_size 4096 --training.batch_size 32 --training.epochs "${EPOCHS:-32}" ;;
    *) echo "expected rotvq-f4 or rotvq-f8; got $name" >&2 && exit 2 ;;
  esac
  weights=src/rotvq/weights/$name
  "$python" scripts/release/pack.py "$work/$name" "$weights"
  "$python" benchmarks/photographs.py "$weights"
  "$python" scripts/release/card.py "$work/$name" "$weights" "results/photographs/$name.json"
done
