"""The manifests of deploy/kubernetes fit Kubernetes' schemas, keep to the rules their comments give, and their script works."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import jsonschema
import pytest
import yaml
from kubernetes_validate.utils import ValidationError, validate
from tests.integration.certificates import self_signed
from tests.integration.test_sidecar_own_identity import TokenReviews, unsigned_jwt
from tests.realparts.process import clean_environment
from tests.sidecar_stack import MOUNT, SidecarStack

from aikeys.settings import PREFIX, Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "kubernetes"
VERSIONS = ("1.31", "1.37")

NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}


def strict(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


TEXT, FLAG = {"type": "string", "minLength": 1}, {"type": "boolean"}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
ACCOUNT = strict(["name"], name=NAME, audiences=TEXTS)
ORIGIN = {"type": "string", "pattern": r"^https://[^/]+$"}
#: The operators' own kinds: of each the fields that are used here, and no others, so that a misspelt one is found.
CUSTOM: dict[tuple[str, str], dict[str, Any]] = {
    ("secrets.hashicorp.com/v1beta1", "VaultConnection"): strict(
        ["address"], address=ORIGIN, caCertSecretRef=NAME, skipTLSVerify=FLAG
    ),
    ("secrets.hashicorp.com/v1beta1", "VaultAuth"): strict(
        ["method", "mount"],
        vaultConnectionRef=NAME,
        method={"enum": ["kubernetes", "jwt", "appRole", "aws", "gcp"]},
        mount=TEXT,
        kubernetes=strict(
            ["role", "serviceAccount"],
            role=TEXT,
            serviceAccount=NAME,
            audiences=TEXTS,
            tokenExpirationSeconds={"type": "integer", "minimum": 600},
        ),
    ),
    ("secrets.hashicorp.com/v1beta1", "VaultDynamicSecret"): strict(
        ["mount", "path", "destination"],
        vaultAuthRef=NAME,
        mount=TEXT,
        path=TEXT,
        renewalPercent={"type": "integer", "minimum": 0, "maximum": 90},
        revoke=FLAG,
        allowStaticCreds=FLAG,
        destination=strict(
            ["name"],
            name=NAME,
            create=FLAG,
            overwrite=FLAG,
            transformation=strict([], excludeRaw=FLAG, includes=TEXTS, excludes=TEXTS),
        ),
        rolloutRestartTargets={
            "type": "array",
            "items": strict(
                ["kind", "name"], kind={"enum": ["Deployment", "DaemonSet", "StatefulSet"]}, name=NAME
            ),
        },
    ),
    ("generators.external-secrets.io/v1alpha1", "VaultDynamicSecret"): strict(
        ["path", "provider"],
        path=TEXT,
        method={"enum": ["GET", "POST", "PUT", "LIST", "DELETE"]},
        resultType={"enum": ["Data", "Auth", "Raw"]},
        provider=strict(
            ["server", "auth"],
            server=ORIGIN,
            caProvider=strict(
                ["type", "name", "key"], type={"enum": ["Secret", "ConfigMap"]}, name=NAME, key=TEXT
            ),
            auth=strict(
                ["kubernetes"],
                kubernetes=strict(
                    ["mountPath", "role"], mountPath=TEXT, role=TEXT, serviceAccountRef=ACCOUNT
                ),
            ),
        ),
    ),
    ("external-secrets.io/v1", "ExternalSecret"): strict(
        ["dataFrom"],
        refreshInterval={"type": "string", "pattern": "^[0-9]+[smh]$"},
        target=strict(
            ["name"],
            name=NAME,
            creationPolicy={"enum": ["Owner", "Orphan", "Merge", "None"]},
            template=strict([], data={"type": "object", "additionalProperties": TEXT}),
        ),
        dataFrom={
            "type": "array",
            "items": strict(
                ["sourceRef"],
                sourceRef=strict(
                    ["generatorRef"],
                    generatorRef=strict(
                        ["apiVersion", "kind", "name"], apiVersion=TEXT, kind=TEXT, name=NAME
                    ),
                ),
            ),
        },
    ),
}


def documents(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document is not None]


FILES = sorted(FOLDER.rglob("*.yaml"))
ALL = [(file, document) for file in FILES for document in documents(file)]
NAMES = [f"{file.stem}-{document['kind']}" for file, document in ALL]


def check(document: dict[str, Any]) -> None:
    schema = CUSTOM.get((document["apiVersion"], document["kind"]))
    if schema is not None:
        whole = strict(
            ["apiVersion", "kind", "metadata", "spec"],
            apiVersion=TEXT,
            kind=TEXT,
            metadata=strict(["name", "namespace"], name=NAME, namespace=NAME),
            spec=schema,
        )
        jsonschema.validate(document, whole)
        return
    for version in VERSIONS:
        validate(document, version, strict=True)


@pytest.mark.parametrize(("file", "document"), ALL, ids=NAMES)
def test_a_manifest_fits_its_schema_and_a_misspelt_field_does_not(
    file: Path, document: dict[str, Any]
) -> None:
    check(document)
    changed = json.loads(json.dumps(document))
    where = next(changed[key] for key in ("spec", "metadata") if key in changed)
    where["misspelt"] = "x"
    with pytest.raises((ValidationError, jsonschema.ValidationError)):
        check(changed)


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    for file, document in ALL:
        if document["kind"] == "Deployment":
            yield file.stem, document, document["spec"]["template"]
        elif document["kind"] == "CronJob":
            yield file.stem, document, document["spec"]["jobTemplate"]["spec"]["template"]


@pytest.mark.parametrize(("name", "owner", "pod"), list(pods()), ids=[name for name, _, _ in pods()])
def test_every_pod_is_restricted(name: str, owner: dict[str, Any], pod: dict[str, Any]) -> None:
    """The rules of the Pod Security Standard "restricted", and what it leaves out."""
    spec = pod["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] >= 10000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] != "default"
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert ":" in container["image"]
        assert not container["image"].endswith(":latest")
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    if owner["kind"] == "Deployment":
        assert owner["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def one(stem: str, kind: str) -> dict[str, Any]:
    (found,) = [document for file, document in ALL if file.stem == stem and document["kind"] == kind]
    return found


def test_the_sidecar_s_deployment_gives_settings_that_exist_and_is_fit_for_one_database() -> None:
    deployment = one("deployment", "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    assert {name.removeprefix(PREFIX).lower() for name in given} <= set(Settings.model_fields)
    values = {name.removeprefix(PREFIX).lower(): value for name, value in given.items() if "FILE" not in name}
    settings = Settings.model_validate(
        values | {"auth_kubernetes_jwt_file": given["AIKEYS_AUTH_KUBERNETES_JWT_FILE"]}
    )
    assert settings.upstream_addr.startswith("https://")
    assert {"AIKEYS_TLS_CERT_FILE", "AIKEYS_TLS_KEY_FILE"} <= set(given)
    assert settings.port == container["ports"][0]["containerPort"]
    assert spec["terminationGracePeriodSeconds"] > settings.graceful_timeout
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    for name, value in given.items():
        if name.endswith("_FILE"):
            assert any(value.startswith(f"{path}/") for path in mounted), name
    assert str(settings.data_dir) in mounted

    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    # An outage of Vault must not restart it.
    assert "httpGet" not in container["livenessProbe"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/aikeys/health"
    assert "minAvailable" not in one("poddisruptionbudget", "PodDisruptionBudget")["spec"]
    for document in (
        one("poddisruptionbudget", "PodDisruptionBudget"),
        one("networkpolicy", "NetworkPolicy"),
    ):
        selector = document["spec"].get("selector") or document["spec"]["podSelector"]
        assert selector["matchLabels"] == deployment["spec"]["selector"]["matchLabels"]
    assert set(one("networkpolicy", "NetworkPolicy")["spec"]["policyTypes"]) == {"Ingress", "Egress"}


def test_no_manifest_holds_a_key_and_every_address_is_the_sidecar_s() -> None:
    for file, document in ALL:
        if document["kind"] == "Secret":
            assert not {"data", "stringData"} & set(document), file
    addresses = {
        found
        for file in FILES
        if file.parent.name == "app"
        for found in re.findall(r"https://[\w.:-]+", file.read_text())
    }
    assert addresses == {"https://aikeys.aikeys.svc:8210", "https://kubernetes.default.svc"}


def test_the_agent_s_config_map_is_the_tested_configuration() -> None:
    data = one("agent-sidecar", "ConfigMap")["data"]
    for name, file in (
        ("kubernetes.hcl", "login/kubernetes.hcl"),
        ("env-file.hcl", "deliver/env-file.hcl"),
        ("run-and-revoke", "run-and-revoke"),
    ):
        assert data[name] == (DEPLOY / "agent" / file).read_text()
    login = hcl2.loads(data["kubernetes.hcl"])
    (agent,) = one("agent-sidecar", "Deployment")["spec"]["template"]["spec"]["initContainers"]
    assert agent["restartPolicy"] == "Always"
    token = json.dumps(login)
    assert any(mount["mountPath"] + "/token" in token for mount in agent["volumeMounts"])
    injected = one("agent-injector", "Deployment")["spec"]["template"]["metadata"]["annotations"]
    template = injected["vault.hashicorp.com/agent-inject-template-app.env"].replace(
        '"ai-keys/creds/demo"', "PATH"
    )
    assert re.sub(r"\s+", " ", template).strip() in re.sub(
        r"\s+",
        " ",
        data["env-file.hcl"].replace('(printf "ai-keys/creds/%s" (mustEnv "AIKEYS_ROLE"))', "PATH"),
    )


def test_the_overview_names_every_way_and_everything_that_must_be_there_first() -> None:
    text = (FOLDER / "README.md").read_text()
    assert [file.name for file in FILES if file.parent.name == "app" and f"app/{file.name}" not in text] == []
    made = {(document["kind"], document["metadata"]["name"]) for _, document in ALL}
    for _, _, pod in pods():
        secrets = {
            volume["secret"]["secretName"] for volume in pod["spec"].get("volumes", []) if "secret" in volume
        }
        for name in secrets:
            assert ("Secret", name) in made or f"`{name}`" in text
    for _, document in ALL:
        assert f"`{document['metadata']['namespace']}`" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not (FOLDER / link).exists()] == []


def test_reloader_s_annotations_are_where_it_looks_for_them() -> None:
    for _, document in ALL:
        annotations = document["metadata"].get("annotations", {})
        if "reloader.stakater.com/match" in annotations:
            assert document["kind"] == "Secret"
        for name in ("reloader.stakater.com/search", "reloader.stakater.com/auto"):
            assert name not in annotations or document["kind"] == "Deployment"
    assert one("reloader", "Deployment")["metadata"]["annotations"] == {
        "reloader.stakater.com/search": "true"
    }
    assert one("cronjob", "Secret")["metadata"]["annotations"] == {"reloader.stakater.com/match": "true"}


def test_the_job_may_change_one_secret_and_nothing_else() -> None:
    assert one("cronjob", "Role")["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["assistant-key"], "verbs": ["patch"]}
    ]
    spec = one("cronjob", "CronJob")["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    # Not by day of the month.
    assert spec["schedule"].split()[2:] == ["*", "*", "*"]
    assert spec["jobTemplate"]["spec"]["backoffLimit"] > 0
    assert (
        one("cronjob", "ConfigMap")["data"]["refresh_secret.py"]
        == (FOLDER / "app/refresh_secret.py").read_text()
    )


NO_ANSWER = 0


class KubernetesApi(TokenReviews):
    """Judges tokens for the auth method, and takes server-side applies of one Secret."""

    stored: dict[str, Any]
    status = 200

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).stored = {
            "path": self.path,
            "type": self.headers["Content-Type"],
            "token": self.headers["Authorization"],
            "body": body,
        }
        if self.status == NO_ANSWER:
            self.close_connection = True
            return
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


@pytest.fixture
def api(openbao_stack: SidecarStack, tmp_path: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), KubernetesApi)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    client = openbao_stack.hvac()
    client.sys.enable_auth_method("kubernetes", path="refresh-kubernetes")
    try:
        client.write_data(
            "auth/refresh-kubernetes/config",
            data={
                "kubernetes_host": address,
                "disable_local_ca_jwt": True,
                "kubernetes_ca_cert": self_signed(tmp_path)[0].read_text(),
                "token_reviewer_jwt": "reviewer",
            },
        )
        client.sys.create_or_update_policy(
            "refresh",
            f'path "{MOUNT}/creds/demo" {{ capabilities = ["read"] }}\n'
            'path "sys/leases/revoke" { capabilities = ["update"] }',
        )
        client.write_data(
            "auth/refresh-kubernetes/role/refresh",
            data={
                "bound_service_account_names": "sidecar",
                "bound_service_account_namespaces": "apps",
                "audience": "vault",
                "token_policies": "refresh",
                "token_ttl": "1h",
            },
        )
        yield address
    finally:
        client.sys.disable_auth_method("refresh-kubernetes")
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("status", [200, 403, 504, NO_ANSWER])
def test_the_job_s_script_stores_a_key_that_works_or_leaves_none(
    openbao_stack: SidecarStack, api: str, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KubernetesApi, "status", status)
    account = tmp_path / "account"
    account.mkdir()
    (account / "namespace").write_text("apps")
    (account / "token").write_text("account-token")
    (tmp_path / "jwt").write_text(unsigned_jwt())
    before = openbao_stack.live_keys()
    done = subprocess.run(
        [sys.executable, FOLDER / "app" / "refresh_secret.py"],
        env=clean_environment(
            ACCOUNT_DIR=os.fspath(account),
            KUBERNETES_API=api,
            VAULT_ADDR=openbao_stack.address,
            VAULT_AUTH_MOUNT="refresh-kubernetes",
            VAULT_ROLE="refresh",
            VAULT_JWT_FILE=os.fspath(tmp_path / "jwt"),
            AIKEYS_ROLE="demo",
            SECRET_NAME="assistant-key",
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    seen = KubernetesApi.stored
    assert seen["path"].startswith("/api/v1/namespaces/apps/secrets/assistant-key?")
    assert "force=true" in seen["path"]
    assert seen["type"] == "application/apply-patch+yaml"
    assert seen["token"] == "Bearer account-token"
    validate(seen["body"], VERSIONS[-1], strict=True)
    key = seen["body"]["stringData"]["OPENAI_API_KEY"]
    assert key not in done.stdout + done.stderr
    if status == 200:
        assert done.returncode == 0, done.stderr
        assert openbao_stack.works(key)
    elif status == 403:
        assert done.returncode == 1
        assert "the Secret is as it was" in done.stderr
        openbao_stack.dies(key)
        assert openbao_stack.live_keys() <= before
    else:
        # It may be in the Secret all the same, and then it is the one that the app uses.
        assert done.returncode == 1
        assert "whether the new key was stored is not known" in done.stderr
        assert openbao_stack.works(key)
