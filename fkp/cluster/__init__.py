"""The Ray cluster: joined or started, what it holds, and what is checked before `ray up`.

Import it before ray: it sets what Ray reads when it is imported.
"""

import os

# Read when ray is imported: Train adds no prefix to what workers print, and its controller looks at the workers' reports
# more often than every two seconds, for which each epoch would wait.
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
