"""Search settings with Ray Tune, on this machine or on the cluster that RAY_ADDRESS names.

python tune/search.py [--config FILE.yaml] [--trials N] [--refit] [--section.key VALUE ...]
"""

from fkp.errors import run_command
from fkp.tune.search import main

if __name__ == "__main__":
    run_command(main, "tune")
