#!/usr/bin/env bash
# Put what `infra/gpu/run.sh` needs into one folder: images, ImageNet weights, and a few wheels.
#     infra/gpu/pack.sh data/manifests/NAME WEIGHTS.h5 FOLDER
# Run it with `make setup` done. The wheels are of requirements-jax.lock, for Python 3.12 on x86-64: those that few machines
# with JAX have. The folder stays small: the machine must have the packages that `need` names in infra/gpu/run.sh.
set -euo pipefail
[ $# = 3 ] || { echo "usage: infra/gpu/pack.sh MANIFEST WEIGHTS.h5 FOLDER" >&2; exit 2; }
set -- "$(realpath "$1")" "$(realpath "$2")" "$(realpath -m "$3")"
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
mkdir -p "$3"
$python -m pipelines.gpu_study pack --manifest "$1" --out "$3/images.parquet"
cp -f "$2" "$3/weights.h5"
names=" keras namex optree prometheus-client pydantic pydantic-core annotated-types typing-inspection "
requirements=$(mktemp)
trap 'rm -f "$requirements"' EXIT
awk -v names="$names" '/^[^ #]/ { split($1, part, "=="); kept = index(names, " " part[1] " ") } kept' \
  requirements-jax.lock > "$requirements"
platforms=""
for glibc in 28 27 17; do platforms="$platforms --platform manylinux_2_${glibc}_x86_64"; done
rm -f "$3"/*.whl
$python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
  --python-version 3.12 $platforms --platform manylinux2014_x86_64 --dest "$3" --require-hashes -r "$requirements"
du -ch "$3"/* | tail -1
