#!/usr/bin/env bash
# Trains a small tokenizer on CIFAR-10 (half an hour on 2 cores), evaluates it, and writes the files of a
# release: a folder for the Hub with its model card, and ONNX programs. Trained models are not in the
# repository.
#
#   scripts/release.sh DATA [OUT] [OWNER/NAME]     resumes where it stopped; uploads if given a name
set -euo pipefail
data=${1:?"expected the images: scripts/release.sh cifar-10-python.tar.gz [OUT] [OWNER/NAME]"}
out=${2:-release}
rotvq train --preset "${PRESET:-best}" --data "$data" --out "$out/run" --resume
rotvq report "$out/run"
rotvq export "$out/run" --to model -o "$out/model" --overwrite ${3:+--push "$3"}
rotvq export "$out/run" --to onnx -o "$out/onnx" --overwrite
