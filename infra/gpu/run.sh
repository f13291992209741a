#!/usr/bin/env bash
# Measure a GPU and run the paper's study on it, on a machine with JAX and without TensorFlow, Ray or a package registry.
#     infra/gpu/run.sh FOLDER OUT [options of `cxr gpu-study run`]
# FOLDER is what infra/gpu/pack.sh wrote. OUT gets gpu-study.json, and progress.tar.gz to continue from with --resume.
# All paths are those of the folder in which it is called.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: infra/gpu/run.sh FOLDER OUT [options]" >&2; exit 2; }
folder=$1 out=$2
shift 2
python=${PYTHON:-python3}
repository=$(cd "$(dirname "$0")/../.." && pwd)
need="absl-py filelock h5py jax ml-dtypes numpy packaging pandas pillow pyarrow rich scikit-learn typing-extensions"
missing=$("$python" - $need << 'END'
import sys
from importlib.metadata import PackageNotFoundError, version

for name in sys.argv[1:]:
    try:
        version(name)
    except PackageNotFoundError:
        print(name, end=" ")
END
)
[ -z "$missing" ] || { echo "infra/gpu/run.sh: this machine lacks: $missing" >&2; exit 2; }
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$site" "$folder"/*.whl
export KERAS_BACKEND=jax PYTHONPATH="$site:$repository${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
# The study stores its progress and ends; this script waits for it.
trap 'stopping=1; [ -n "${!-}" ] || exit 143; kill -TERM $! 2> /dev/null || true' INT TERM
"$python" -m pipelines.gpu_study run --images "$folder/images.parquet" \
  --imagenet-weights "$folder/weights.h5" --out "$out" "$@" &
study=$!
while :; do
  stopping='' code=0
  wait "$study" || code=$?
  [ -n "$stopping" ] && [ "$code" -gt 128 ] || break  # a signal ended `wait` and not the study: ask again
done
exit "$code"
