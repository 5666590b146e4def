"""The same work behind FastAPI and uvicorn, for serve_load.py: python benchmarks/serve_uvicorn.py PORT."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

sys.path.insert(0, str(Path(__file__).resolve().parent))

from serve_load import CORES, worker


def make_app() -> FastAPI:
    """FastAPI around the worker, in the thread pool that keeps the event loop free."""
    app, work = FastAPI(), worker()

    @app.post("/v1/keypoints")
    async def keypoints(request: Request) -> Response:
        answer = await run_in_threadpool(work, await request.body())
        return Response(answer, media_type="application/json")

    return app


if __name__ == "__main__":
    port = int(sys.argv[1])
    uvicorn.run("serve_uvicorn:make_app", factory=True, host="127.0.0.1", port=port, workers=CORES, log_level="warning", access_log=False)
