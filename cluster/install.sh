#!/usr/bin/env bash
# Put exactly what requirements.txt and constraints.txt name into ~/fkp/.venv, and that on the PATH of this user's shells. Does
# nothing where that is done already.
set -euo pipefail
cd ~/fkp
# `ray down` and `ray exec` ask a shell on the host for `ray`.
path='export PATH="$HOME/fkp/.venv/bin:$PATH"'
grep -qxF "$path" ~/.bashrc 2>/dev/null || echo "$path" >> ~/.bashrc

python=${FKP_PYTHON:-python3.11}
wanted=$(cat requirements.txt constraints.txt | sha256sum | cut -d' ' -f1)
[ "$(cat .installed 2>/dev/null)" = "$wanted" ] && [ -f fkp/vision/detect/face_detection_back_256x256.onnx ] && exit 0
command -v "$python" >/dev/null || { echo "this host has no $python: install it, or name another with FKP_PYTHON" >&2; exit 1; }
"$python" -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt -c constraints.txt
# Where the checkout came without the face detector's network; an image gets the code, and with it the network, later.
if [ -d fkp/vision/detect ]; then .venv/bin/python hatch_build.py; fi
echo "$wanted" > .installed
