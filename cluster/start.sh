#!/usr/bin/env bash
# start.sh head|worker: start Ray on this host, and on the head MLflow's server. `ray up` calls it, also after a host was lost.
#
# Read from the environment:
#   RAY_HEAD_IP          on workers, set by `ray up`
#   FKP_HOST_IP          this host's address for the others; by default that of the interface with the default route, or the first
#   FKP_MLFLOW_STORE     on the head: MLflow's SQL store; by default a database in ~/fkp-mlflow
#   FKP_MLFLOW_ARTIFACTS on the head: where MLflow keeps files, a folder, gs:// or s3://; by default ~/fkp-mlflow/artifacts
set -euo pipefail
role=${1:?start.sh head|worker}
. ~/fkp/cluster/env.sh

address=${FKP_HOST_IP:-$(ip -o -4 route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p')}
address=${address:-$(hostname -I | cut -d' ' -f1)}
# Gloo would take the address of the host's name, which on many hosts is 127.0.0.1.
GLOO_SOCKET_IFNAME=$(ip -o -4 address show | awk -v address="$address" 'index($4, address "/") == 1 { print $2; exit }')
export GLOO_SOCKET_IFNAME
ulimit -n 65536 2>/dev/null || true  # Ray opens some thousands of files; where the limit cannot be raised it says so itself.

ray stop --force --grace-period 5 >/dev/null
if [ "$role" = worker ]; then
    exec ray start --address="$RAY_HEAD_IP:6379" --node-ip-address="$address"
fi

mlflow=~/fkp-mlflow
mkdir -p "$mlflow"
if ! curl --silent --fail --output /dev/null http://127.0.0.1:5000/health; then
    # Loopback only: whoever may log in by ssh may read and write. Two processes instead of ten, and half the memory.
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false setsid mlflow server --host 127.0.0.1 --port 5000 --workers 1 --serve-artifacts \
        --backend-store-uri "${FKP_MLFLOW_STORE:-sqlite:///$mlflow/mlflow.db}" \
        --artifacts-destination "${FKP_MLFLOW_ARTIFACTS:-$mlflow/artifacts}" >>"$mlflow/server.log" 2>&1 </dev/null &
fi
# No core for tasks: the head has the controllers, the registry and the drivers to carry.
exec ray start --head --port=6379 --node-ip-address="$address" --num-cpus=0 --num-gpus=0 --dashboard-host=127.0.0.1 \
    --autoscaling-config=~/ray_bootstrap_config.yaml
