#!/usr/bin/env bash
# Start MLflow's server on the head where it does not run, and wait until it answers; start.sh calls it.
set -euo pipefail
. ~/fkp/cluster/env.sh
answers() { curl --silent --fail --output /dev/null "$MLFLOW_TRACKING_URI/health"; }
answers && exit 0
mlflow=~/fkp-mlflow
mkdir -p "$mlflow"
# Loopback only: whoever may log in by ssh may read and write. Two processes instead of ten, and half the memory.
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false setsid mlflow server --host 127.0.0.1 --port 5000 --workers 1 --serve-artifacts \
    --backend-store-uri "${FKP_MLFLOW_STORE:-sqlite:///$mlflow/mlflow.db}" \
    --artifacts-destination "${FKP_MLFLOW_ARTIFACTS:-$mlflow/artifacts}" >>"$mlflow/server.log" 2>&1 </dev/null &
for _ in $(seq 120); do answers && exit 0; sleep 1; done
echo "MLflow's server does not answer; $mlflow/server.log ends with:" >&2
tail -n 5 "$mlflow/server.log" >&2
exit 1
