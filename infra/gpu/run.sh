#!/usr/bin/env bash
# Measure a GPU and run the paper's study on it, on a machine with JAX and without TensorFlow, Ray or a package registry.
#     infra/gpu/run.sh FOLDER OUT [options of `cxr gpu-study run`]
# FOLDER is what infra/gpu/pack.sh wrote. OUT gets gpu-study.json, and progress.tar.gz to continue from with --resume.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: infra/gpu/run.sh FOLDER OUT [options]" >&2; exit 2; }
folder=$(realpath "$1") out=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")/../.."
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"${PYTHON:-python3}" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$folder"/*.whl
export KERAS_BACKEND=jax PYTHONPATH="$site:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
"${PYTHON:-python3}" -m pipelines.gpu_study run --images "$folder/images.parquet" \
  --imagenet-weights "$folder/weights.h5" --out "$out" "$@"
