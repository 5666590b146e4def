"""Twenty images a second for as many seconds as the argument says; prints how many were asked and how many got points."""

import concurrent.futures
import json
import sys
import time
from pathlib import Path

import requests

PHOTO = Path("~/fkp/fkp/serve/golden/face.jpg").expanduser().read_bytes()
URL = "http://127.0.0.1:8000/v1/keypoints"


def ask(at: float) -> bool:
    """Whether an image, sent at a moment of the monotonic clock, came back with a face."""
    time.sleep(max(0.0, at - time.monotonic()))
    try:
        found = requests.post(URL, PHOTO, headers={"Content-Type": "image/jpeg"}, timeout=15)
    except requests.RequestException:
        return False
    return found.status_code == 200 and len(found.json()["faces"]) == 1


begin = time.monotonic()
with concurrent.futures.ThreadPoolExecutor(64) as pool:
    answers = list(pool.map(ask, [begin + number / 20 for number in range(20 * int(sys.argv[1]))]))
print(json.dumps({"asked": len(answers), "succeeded": sum(answers)}))
