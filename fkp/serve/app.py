"""The endpoint as a Ray Serve application: `serve run serve.app:build`, `serve deploy serve/config.yaml`.

One deployment holds everything a request needs: security, decoding, detection, the network and its batches. A second one for
the network alone would cost each request another hop between processes, which is dearer than the network itself.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray import serve

from fkp.bundle import drift
from fkp.common.ray_private import listening_host
from fkp.errors import FkpError
from fkp.predict.predictor import Search, advance
from fkp.serve import TOKEN_VARIABLE
from fkp.serve.bundle_source import Source, find_bundle
from fkp.serve.concurrency import ConcurrencyLimiter
from fkp.serve.http.routes import ROUTES, build_api
from fkp.serve.http.security import check_host, token_digests
from fkp.serve.ingress import haproxy
from fkp.serve.limits import LARGE_PIXELS, REQUEST_S
from fkp.serve.metrics import Metrics, render, total
from fkp.serve.model import Found, InferenceOptions, Model, check_image, load_model
from fkp.serve.settings import GPU_BATCH_SIZE, Settings, deployment_of, read_config, read_settings
from fkp.serve.store import Store

if TYPE_CHECKING:
    from ray.serve import Application

    from fkp.serve.http.security import SecurityMiddleware
    from fkp.serve.http.uploads import Upload

_ACCEPTED = "accepted"
_NUMBERS = "metrics/"
_TELL_S = 1.0

#: Below Serve's own, whose level is set so that it writes no line for each request.
logger = logging.getLogger("ray.serve.fkp")


@serve.ingress()
class Landmarks:
    """One replica.

    Args:
        digests: Of the valid tokens, see `http.security.token_digests`.
        timeout_s: Longest time of a request.
    """

    def __init__(self, digests: Sequence[str] = (), timeout_s: float = REQUEST_S) -> None:
        import cv2

        logger.setLevel(logging.INFO)
        cv2.setNumThreads(1)  # The threads of this replica decode several images at once instead.
        check_host(listening_host(), digests)
        self.model: Model | None = None
        self.settings = Settings()
        self.metrics = Metrics()
        self._digests, self._timeout_s = tuple(digests), timeout_s
        self._refused: dict[str, str] | None = None
        self._images = ThreadPoolExecutor(self.settings.decode_threads, "picture")
        # Large images have a thread of their own, so that no other waits for them.
        self._large = ThreadPoolExecutor(1, "large picture")
        self._network = ThreadPoolExecutor(1, "network")
        self._store = Store()
        self._key = _NUMBERS + serve.get_replica_context().replica_tag
        self._telling: asyncio.Task[None] | None = None
        self._batching = False

    def __serve_build_asgi_app__(self) -> SecurityMiddleware:
        """Called by Ray once this replica is made."""
        secured = build_api(self, self._digests, self._timeout_s, lambda: self.settings.allowed_origins)
        secured.app = ConcurrencyLimiter(secured.app, lambda: self.settings.max_in_progress)
        return secured

    # --- the model and its change -----------------------------------------------------------------------------------

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take new settings; a new model is loaded and tried beside the old one, and takes its place between two requests.

        A model that cannot be loaded or fails its golden image is refused, and the old one stays: raising here would
        make Ray replace this healthy replica by one that cannot start. A replica that starts while such a model is asked
        for takes the last one that was accepted.

        Raises:
            FkpError: The first model of the first replica cannot be served, or the settings are wrong.
        """
        loop = asyncio.get_running_loop()
        try:
            settings = read_settings(user_config, bool(self._digests))
        except FkpError as error:
            if self.model is None:
                raise
            self._refuse(str(user_config.get("bundle", "")), str(error))
            return
        if self._telling is None:
            self._telling = loop.create_task(self._tell())
        try:
            model = await loop.run_in_executor(None, self._load, settings)
        except FkpError as error:
            self._refuse(settings.bundle, str(error))
            kept = self.model or await loop.run_in_executor(None, self._last_accepted, settings)
            if kept is None:
                raise
            model = kept
        self._apply(settings)
        self.model = model
        self.metrics.models.clear()
        self.metrics.models.labels(model.digest, model.version).set(1)

    def _load(self, settings: Settings) -> Model:
        source = find_bundle(settings.bundle)
        model = load_model(source, settings.network_threads, settings.golden_nme_pct, settings.detector, _on_gpu(settings))
        self._store.put(_ACCEPTED, f"{source.version or ''}\n{source.path}\n{settings.detector or ''}")
        self.metrics.swaps.labels("accepted").inc()
        logger.info("serving model %s from %s", model.digest[:12], source.path)
        return model

    def _last_accepted(self, settings: Settings) -> Model | None:
        known = self._store.get(_ACCEPTED)
        if known is None:
            return None
        version, path, detector = known.split("\n")
        source = Source(path, version or None)
        return load_model(source, settings.network_threads, settings.golden_nme_pct, detector or None, _on_gpu(settings))

    def _refuse(self, bundle: str, reason: str) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._refused = {"bundle": bundle or "champion", "reason": reason, "at": now}
        self.metrics.swaps.labels("refused").inc()
        logger.error("model refused: %s", reason)

    def _apply(self, settings: Settings) -> None:
        size = settings.max_batch_size or (GPU_BATCH_SIZE if _on_gpu(settings) else 1)
        self._batching = size > 1
        self._infer.set_max_batch_size(size)  # type: ignore[attr-defined]
        self._infer.set_batch_wait_timeout_s(settings.batch_wait_ms / 1000)  # type: ignore[attr-defined]
        if settings.decode_threads != self.settings.decode_threads:
            old, self._images = self._images, ThreadPoolExecutor(settings.decode_threads, "picture")
            old.shutdown(wait=False)  # What it has begun it finishes.
        self.settings = settings

    def refused(self) -> dict[str, str] | None:
        """The last model that was not taken."""
        return self._refused

    # --- requests ---------------------------------------------------------------------------------------------------

    async def find(self, model: Model, upload: Upload, options: InferenceOptions, keep_image: bool = False) -> Found:
        """Find the faces of one encoded image.

        Args:
            model: The one this request began with.
            upload: As it was sent.
            options: What is asked.
            keep_image: Whether the image is needed afterwards.

        Raises:
            Refusal: The image cannot be used.
        """
        asked = time.perf_counter()
        header = check_image(upload.data, header=upload.header)
        # Who decodes this image, finds its faces and cuts the crops.
        images = self._large if header.pixels > LARGE_PIXELS else self._images
        with self.metrics.in_progress.track_inprogress():
            if self._batching:
                found = await self._find_batched(images, model, model.search(upload.data, options, keep_image, header))
            else:
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(images, model.find, upload.data, options, keep_image, header)
                worked_ms = sum(found.milliseconds.values())
                found.milliseconds["queue"] = max(1000 * (time.perf_counter() - asked) - worked_ms, 0.0)
                self.metrics.batch_crops.observe(len(found.faces))
        self._observe_faces(found)
        return found

    async def _find_batched(self, images: ThreadPoolExecutor, model: Model, search: Search[Found]) -> Found:
        """As `Model.find`, but the network takes the crops beside those of other requests."""
        loop = asyncio.get_running_loop()
        queue_s = network_s = 0.0
        step = await loop.run_in_executor(images, advance, search)
        while isinstance(step, np.ndarray):
            asked = time.perf_counter()
            points_px, error_px, seconds = zip(*await asyncio.gather(*(self._infer((model, crop_u8)) for crop_u8 in step)), strict=True)
            network_s += max(seconds)
            queue_s += max(time.perf_counter() - asked - max(seconds), 0.0)
            step = await loop.run_in_executor(images, advance, search, (np.stack(points_px), np.stack(error_px)))
        step.milliseconds.update(queue=1000 * queue_s, network=1000 * network_s)
        return step

    @serve.batch(max_batch_size=GPU_BATCH_SIZE, batch_wait_timeout_s=0.0)
    async def _infer(self, jobs: list[tuple[Model, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray, float]]:
        """Run the network on crops of several requests; points, error and seconds of each.

        During a swap they may belong to two models.
        """
        self.metrics.batch_crops.observe(len(jobs))
        answers: dict[int, tuple[np.ndarray, np.ndarray, float]] = {}
        loop = asyncio.get_running_loop()
        for model in {id(model): model for model, _ in jobs}.values():
            places = [place for place, (wanted, _) in enumerate(jobs) if wanted is model]
            began = time.perf_counter()
            crops_u8 = np.stack([jobs[place][1] for place in places])
            points_px, error_px = await loop.run_in_executor(self._network, model.predictor.run, crops_u8)
            seconds = time.perf_counter() - began
            answers |= {place: (*answer, seconds) for place, *answer in zip(places, points_px, error_px, strict=True)}
        return [answers[place] for place in range(len(jobs))]

    async def draw(self, found: Found) -> bytes:
        """Draw the faces into their image, as a PNG file."""
        return await asyncio.get_running_loop().run_in_executor(self._images, _draw, found)

    # --- numbers ----------------------------------------------------------------------------------------------------

    def observe(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        route = path if path in ROUTES else "other"
        self.metrics.requests.labels(route, status).inc()
        self.metrics.request_s.labels(route).observe(seconds)

    def count_error(self, code: str) -> None:
        """Count a refusal."""
        self.metrics.errors.labels(code).inc()

    async def metrics_text(self) -> str:
        """Everything counted by all replicas, in Prometheus's format."""
        return await asyncio.get_running_loop().run_in_executor(None, self._sum)

    def _sum(self) -> str:
        reference = drift.reference_counts(self.model.bundle.metrics) if self.model else None
        sums, refused = total([*self._store.all_but(_NUMBERS, self._key), self.metrics.snapshot()]), None
        if socket_path := os.environ.get(haproxy.SOCKET_VARIABLE):
            try:
                refused = haproxy.refused(socket_path)
            except OSError as error:  # On another machine than HAProxy, or while that is exchanged: better no number than a wrong one.
                logger.warning("HAProxy does not tell what it refused: %s", error)
        return render(self.metrics, sums, reference, refused)

    def _observe_faces(self, found: Found) -> None:
        for stage, milliseconds in found.milliseconds.items():
            self.metrics.stage_s.labels(stage).observe(milliseconds / 1000)
        self.metrics.faces.inc(len(found.faces))
        self.metrics.left_out.inc(found.left_out)
        for face, pixels_u8 in zip(found.faces, found.crops_u8, strict=True):
            self.metrics.error_ratio.observe(drift.error_ratio(face.expected_error_px, face.box_xyxy))
            self.metrics.brightness.observe(drift.brightness(pixels_u8))

    async def _tell(self) -> None:
        """Write this replica's numbers where the others find them, as long as it lives."""
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(None, self._store.put, self._key, self.metrics.snapshot())
            await asyncio.sleep(_TELL_S)


def build(args: Mapping[str, Any] | None = None) -> Application:
    """Make the application; Ray calls this for `serve run` and `serve deploy`, with the `args` of config.yaml.

    Args:
        args: bundle (see `Settings.bundle`), timeout_s, token_digests (see `http.security.token_digests`; by default those of
            FKP_API_TOKEN where this is called); all may be missing.

    Raises:
        FkpError: An argument is unknown, a token is too short, or config.yaml names no deployment.
    """
    given = dict(args or {})
    bundle, timeout_s = given.pop("bundle", None), float(given.pop("timeout_s", REQUEST_S))
    digests = given.pop("token_digests", None)
    if given:
        raise FkpError(f"unknown argument {', '.join(map(str, given))}: there are bundle, timeout_s and token_digests")
    if digests is None:
        digests = token_digests(os.environ.get(TOKEN_VARIABLE))
    options = deployment_of(read_config())
    if bundle is not None:
        options["user_config"]["bundle"] = str(bundle)
    read_settings(options["user_config"], bool(digests))  # What is wrong with them costs no start of a replica.
    # Its type is that of a decorator with arguments; with a class it is the deployment.
    deployment: Any = serve.deployment(Landmarks, **options)
    return deployment.bind(list(digests), timeout_s)


def _on_gpu(settings: Settings) -> bool:
    return settings.device == "gpu" or (settings.device == "auto" and bool(ray.get_gpu_ids()))


def _draw(found: Found) -> bytes:
    from fkp.predict.drawing import draw_faces
    from fkp.vision.image import encode_image

    assert found.image is not None
    return encode_image(draw_faces(found.image, found.faces, found.left_out_faces), ".png")
