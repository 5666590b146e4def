"""cluster/Dockerfile and cluster/kubernetes.yaml, as far as they can be read; `make package-test` carries the image's steps out."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import fkp
from fkp.cli import VERBS
from fkp.serve import TOKEN_VARIABLE
from fkp.serve.__main__ import parse
from fkp.serve.http.security import OPEN_PATHS
from fkp.serve.settings import deployment_of, read_config
from tests.installed import dockerfile_stage

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in yaml.safe_load_all((ROOT / "cluster/kubernetes.yaml").read_text())}


def words(stage: str, instruction: str) -> list[str]:
    """The arguments of the one instruction of a stage."""
    (found,) = [rest for word, rest in dockerfile_stage(stage) if word == instruction]
    return json.loads(found) if found.startswith("[") else found.split()


def test_the_default_image_is_the_endpoint_of_a_user_without_rights() -> None:
    stages = re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "cluster/Dockerfile").read_text(), re.MULTILINE)
    assert stages == ["wheel", "cluster", "serve"], "the last one is what is built by default"
    assert words("serve", "USER") == ["1000:1000"]
    last = [word for word, _ in dockerfile_stage("serve")]
    assert last.index("USER") > max(place for place, word in enumerate(last) if word in ("RUN", "COPY"))
    program, (verb, *flags) = words("serve", "ENTRYPOINT"), words("serve", "CMD")
    assert program == ["fkp"] and verb == "serve" and verb in VERBS
    arguments = parse(flags)
    assert arguments.host == "0.0.0.0" and words("serve", "EXPOSE") == [str(arguments.port)]
    (health,) = [rest for word, rest in dockerfile_stage("serve") if word == "HEALTHCHECK"]
    (path,) = re.findall(rf"http://127\.0\.0\.1:{arguments.port}(/\w+)", health)
    assert path in OPEN_PATHS, "it has no token"


def test_what_is_copied_is_there_and_is_what_the_wheel_is_made_of() -> None:
    for stage in ("wheel", "cluster", "serve"):
        for word, rest in dockerfile_stage(stage):
            if word == "COPY" and "--from=" not in rest:
                *sources, _ = [part for part in rest.split() if not part.startswith("--")]
                assert all((ROOT / source).exists() for source in sources), rest
    from hatch_build import SHIPPED

    copied = " ".join(rest for word, rest in dockerfile_stage("wheel") if word == "COPY")
    needed = {"fkp", "pyproject.toml", "hatch_build.py", PROJECT["readme"], "LICENSE", *(name.partition("/")[0] for name in SHIPPED)}
    assert {name for name in needed if not re.search(rf"\b{re.escape(name)}\b", copied)} == set()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {"data/*", *(f"!{name}" for name in SHIPPED if name.startswith("data/"))} <= {*ignored} and ".git" in ignored


def test_the_image_has_the_python_of_the_pins_and_an_extra_that_exists() -> None:
    text = (ROOT / "cluster/Dockerfile").read_text()
    (python,) = re.findall(r"^ARG PYTHON=(3\.\d+)$", text, re.MULTILINE)
    assert PROJECT["requires-python"].startswith(f">={python},")
    (extras,) = re.findall(r"^ARG EXTRAS=(\w+)$", text, re.MULTILINE)
    assert extras in PROJECT["optional-dependencies"]


def test_the_manifests_name_images_of_this_version() -> None:
    for name in ("kubernetes.yaml", "kuberay.yaml"):
        images = re.findall(r"image: (my-registry/\S+)", (ROOT / "cluster" / name).read_text())
        assert images and {image.partition(":")[2] for image in images} == {fkp.__version__}, name


def test_the_pod_has_no_rights_and_only_the_folders_it_must_write(manifests: dict[str, dict[str, Any]]) -> None:
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] and f"{pod['securityContext']['runAsUser']}:1000" == words("serve", "USER")[0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"tmp": "/tmp", "shm": "/dev/shm"} and {volume["name"] for volume in pod["volumes"]} == set(mounts)
    assert not pod["automountServiceAccountToken"]


def test_the_pod_s_probes_token_and_end_are_those_of_the_endpoint(manifests: dict[str, dict[str, Any]]) -> None:
    deployment, service, policy = manifests["Deployment"], manifests["Service"], manifests["NetworkPolicy"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in OPEN_PATHS and container[probe]["httpGet"]["port"] == "http"
    port = parse([]).port
    assert container["ports"] == [{"name": "http", "containerPort": port}]
    (secret,) = (source["secretRef"]["name"] for source in container["envFrom"])
    head = (ROOT / "cluster/kubernetes.yaml").read_text()
    assert f"create secret generic {secret} --from-literal={TOKEN_VARIABLE}=" in head
    assert pod["terminationGracePeriodSeconds"] >= 2 * deployment_of(read_config())["graceful_shutdown_timeout_s"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert (
        labels
        == deployment["spec"]["selector"]["matchLabels"]
        == service["spec"]["selector"]
        == policy["spec"]["podSelector"]["matchLabels"]
    )
    assert service["spec"]["ports"][0]["targetPort"] == "http" and "type" not in service["spec"], "reachable from within only"
    assert policy["spec"]["ingress"] == [{"ports": [{"port": "http"}]}]
