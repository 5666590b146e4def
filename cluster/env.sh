# What a shell on a host of the cluster needs: . ~/fkp/cluster/env.sh
cd ~/fkp
export PATH="$HOME/fkp/.venv/bin:$PATH" PYTHONPATH="$HOME/fkp"
export RAY_AUTH_MODE=token            # Of ~/.ray/auth_token; without it nobody starts a job or reads a log.
export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_TRACKING_URI=http://127.0.0.1:5000  # On the head; other hosts never ask it, the head's processes write for them.
