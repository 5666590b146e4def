#!/usr/bin/env bash
# start.sh head|worker: start Ray on this host, and on the head MLflow's server. `ray up` calls it, also after a host was lost.
#
# Read from the environment:
#   RAY_HEAD_IP          on workers, set by `ray up`
#   FKP_HOST_IP          this host's address for the others; by default that of the interface with the default route
#   FKP_RAY_START        further flags of `ray start` for a worker, such as --num-cpus=8
# and on the head by mlflow.sh:
#   FKP_MLFLOW_STORE     MLflow's SQL store; by default a database in ~/fkp-mlflow
#   FKP_MLFLOW_ARTIFACTS where MLflow keeps files, a folder, gs:// or s3://; by default ~/fkp-mlflow/artifacts
set -euo pipefail
role=${1:?start.sh head|worker}
. ~/fkp/cluster/env.sh

address=${FKP_HOST_IP:-$(python -c 'import socket as s; u = s.socket(type=s.SOCK_DGRAM); u.connect(("192.0.2.1", 1)); print(u.getsockname()[0])')}
# Gloo would take the address of the host's name, which on many hosts is 127.0.0.1.
GLOO_SOCKET_IFNAME=$(python -c 'import psutil, sys
print(next(name for name, all in psutil.net_if_addrs().items() if sys.argv[1] in [one.address for one in all]))' "$address")
export GLOO_SOCKET_IFNAME
# A head that starts while others use its cores answers late; 5 and 20 s, Ray's own, fail then.
export RAY_gcs_rpc_server_connect_timeout_s=30 RAY_gcs_server_port_wait_time_s=60
ulimit -n 65536 2>/dev/null || true  # Ray opens some thousands of files; where the limit cannot be raised it says so itself.

ray stop --force --grace-period 5 >/dev/null
if [ "$role" = worker ]; then
    # shellcheck disable=SC2086  # Several flags.
    exec ray start --address="$RAY_HEAD_IP:6379" --node-ip-address="$address" ${FKP_RAY_START:-}
fi

bash ~/fkp/cluster/mlflow.sh
# No core for tasks: the head has the controllers, the registry and the drivers to carry.
exec ray start --head --port=6379 --node-ip-address="$address" --num-cpus=0 --num-gpus=0 --dashboard-host=127.0.0.1 \
    --autoscaling-config=~/ray_bootstrap_config.yaml
