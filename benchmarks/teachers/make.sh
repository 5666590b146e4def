#!/usr/bin/env bash
# The teachers' environments, apart from fkp's and pinned: make.sh FOLDER. MediaPipe needs Python 3.11 or 3.12 (PYTHON names it).
set -euo pipefail
[ $# = 1 ] || { echo "error: name the folder: benchmarks/teachers/make.sh FOLDER" >&2; exit 2; }
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$1"
"${PYTHON:-python3.11}" -m venv "$1/mediapipe"
"$1/mediapipe/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
cp "$here/package.json" "$here/face_api_points.mjs" "$1/"
npm install --prefix "$1" --silent --no-audit --no-fund --ignore-scripts
