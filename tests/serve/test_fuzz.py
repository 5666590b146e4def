"""Whatever is sent is answered or refused in the one envelope: broken images, and requests made up from the OpenAPI document.

benchmarks/serve_fuzz.py sends thousands more to a real endpoint.
"""

from __future__ import annotations

import asyncio

import hypothesis
import numpy as np
import pytest
import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

from fkp.bundle import Bundle
from fkp.serve.http import schemas
from fkp.serve.ingress.proxy_middleware import ProxyMiddleware

from .local import application, post
from .mutants import mutants, whole_images


@pytest.fixture(scope="module")
def app(champion: Bundle) -> ProxyMiddleware:
    return application(champion)


def test_whole_images_of_every_kind_are_answered(app: ProxyMiddleware, image: np.ndarray) -> None:
    files = whole_images(image)
    statuses = {name: asyncio.run(post(app, "/v1/keypoints", data))[0] for name, data in files.items()}
    assert {name for name, status in statuses.items() if status != 200} == {"gif", "tiff"}


def test_broken_pictures_are_answered_or_refused(app: ProxyMiddleware, image: np.ndarray) -> None:
    async def send_all() -> list[tuple[str, int, bytes]]:
        return [(name, *await post(app, "/v1/keypoints", data)) for name, data in mutants(image, 150)]

    seen = set()
    for name, status, body in asyncio.run(send_all()):
        seen.add(status)
        if status == 200:
            schemas.Keypoints.model_validate_json(body)
        else:
            assert status in (400, 413, 415, 422), (name, status, body)
            assert schemas.Error.model_validate_json(body).message
    assert seen >= {200, 413, 415, 422}, "the mutants are of many kinds"


@pytest.mark.over_5s("hypothesis makes some hundred requests")
@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_requests_made_from_the_document_are_answered_as_it_says(champion: Bundle) -> None:
    token = {"Authorization": "Bearer a-token-of-the-tests"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", application(champion, "a-token-of-the-tests"), headers=token)
    asked = set()
    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.settings(
            max_examples=12, derandomize=True, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
        )
        @hypothesis.given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            asked.add(case.operation.path)
            # Bytes that OpenAPI calls valid are seldom an image, and words seldom a box.
            case.call_and_validate(headers=token, excluded_checks=[positive_data_acceptance])

        check()
    assert asked == set(schema.raw_schema["paths"])
