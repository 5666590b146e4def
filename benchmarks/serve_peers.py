"""The same work behind other servers, for serve_load.py: python benchmarks/serve_peers.py uvicorn|litserve PORT."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from serve_load import worker

CORES = os.cpu_count() or 1


def make_app():  # type: ignore[no-untyped-def]
    """FastAPI around the worker, in the thread pool that keeps the event loop free."""
    from fastapi import FastAPI, Request, Response
    from starlette.concurrency import run_in_threadpool

    app, work = FastAPI(), worker()

    @app.post("/v1/keypoints")
    async def keypoints(request: Request) -> Response:
        answer = await run_in_threadpool(work, await request.body())
        return Response(answer, media_type="application/json")

    return app


def main() -> None:
    """Serve until interrupted."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "uvicorn":
        import uvicorn

        os.chdir(Path(__file__).resolve().parent)
        uvicorn.run("serve_peers:make_app", factory=True, host="127.0.0.1", port=port, workers=CORES, log_level="warning", access_log=False)
        return
    import litserve
    from fastapi import Request, Response

    class Api(litserve.LitAPI):
        def setup(self, device: str) -> None:
            self.work = worker()

        async def decode_request(self, request: Request) -> bytes:
            return await request.body()

        def predict(self, photo: bytes) -> str:
            return self.work(photo)

        def encode_response(self, answer: str) -> Response:
            return Response(answer, media_type="application/json")

    litserve.LitServer(Api(api_path="/v1/keypoints"), accelerator="cpu", workers_per_device=CORES).run(port=port, host="127.0.0.1")


if __name__ == "__main__":
    main()
