"""The same work behind LitServe, for serve_load.py: python benchmarks/serve_litserve.py PORT FOLDER.

FOLDER is what `pip install --target FOLDER litserve==0.2.19` made. It is no dependency of fkp: the folder comes last on the
path, so that all else is what the other rows use.
"""

# Without `from __future__ import annotations`: LitServe hands FastAPI the annotation as it stands.
import sys
from pathlib import Path
from typing import Annotated

# LitServe starts processes that import this file anew, with the same arguments.
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.append(sys.argv[2])

import litserve
from fastapi import Body, Response
from serve_load import CORES, worker


class Api(litserve.LitAPI):  # type: ignore[misc]
    """The worker, in one process a core."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.work = worker()

    def decode_request(self, request: Annotated[bytes, Body()]) -> bytes:
        """The image's file as it came: of a `Request` LitServe would read JSON or a form."""
        return request

    def predict(self, photo: bytes) -> str:
        """Decode, crop, network, JSON."""
        answer: str = self.work(photo)
        return answer

    def encode_response(self, answer: str) -> Response:
        """As JSON."""
        return Response(answer, media_type="application/json")


if __name__ == "__main__":
    server = litserve.LitServer(Api(api_path="/v1/keypoints"), accelerator="cpu", workers_per_device=CORES)
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="warning")
