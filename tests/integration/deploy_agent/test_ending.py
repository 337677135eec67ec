"""What an agent leaves when it ends, when it cannot begin, and what two templates of one agent share."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from tests.integration.deploy_agent.conftest import (
    AGENT,
    BRIEF_ROLE,
    LATE,
    SHORT_TTL,
    Agent,
    in_env_file,
    in_json,
    with_wrapped_secret_id,
    wrapped_secret_id,
)
from tests.realparts.process import ProcessFailed, clean_environment
from tests.sidecar_stack import SidecarStack, eventually


def test_two_templates_of_one_agent_share_one_key(bao: SidecarStack, tmp_path: Path) -> None:
    configs = ("login/approle-wrapped", "deliver/env-file", "deliver/json")
    agent = with_wrapped_secret_id(Agent(bao, tmp_path, configs, BRIEF_ROLE, in_env_file))
    agent.start()
    try:
        eventually(lambda: in_json(tmp_path), what="the JSON file")
        assert in_json(tmp_path) == in_env_file(tmp_path)
        assert stat.S_IMODE((tmp_path / "app.json").stat().st_mode) == 0o600
    finally:
        agent.end()


@pytest.mark.parametrize("fixture", ["bao", "hashicorp"])
def test_run_and_revoke_ends_the_key_with_the_agent(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str
) -> None:
    stack: SidecarStack = request.getfixturevalue(fixture)
    files = ("login/approle-wrapped", "deliver/env-file")
    agent = with_wrapped_secret_id(Agent(stack, tmp_path, files, BRIEF_ROLE, in_env_file, revoking=True))
    agent.start()
    key = agent.key()
    assert key is not None
    assert stack.works(key)
    # To itself alone, as a container's first process is told.
    os.kill(agent.process.pid, signal.SIGTERM)
    eventually(lambda: not agent.process.running, what="the end of the agent")
    # The leases of a token that was revoked end in the background.
    stack.dies(key)
    assert not (tmp_path / "token").exists()
    assert agent.process.stop() == 0


@pytest.mark.parametrize(("revocable", "status"), [(True, 7), (False, 1)])
def test_run_and_revoke_tells_of_an_agent_or_a_revocation_that_failed(
    bao: SidecarStack, tmp_path: Path, revocable: bool, status: int
) -> None:
    token = bao.token().token if revocable else "s.neverissued"
    (tmp_path / "token").write_text(token)
    agent = tmp_path / "bao"
    agent.write_text(f'#!/bin/sh\n[ "$1" = agent ] && exit 7\nexec {bao.upstream.binary} "$@"\n')
    agent.chmod(0o755)
    done = subprocess.run(
        [AGENT / "run-and-revoke", agent, "agent"],
        cwd=tmp_path,
        env=clean_environment(HOME=str(tmp_path), VAULT_ADDR=bao.address),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert (tmp_path / "token").exists() is not revocable


def test_the_key_of_a_stopped_agent_dies_with_its_lease(bao: SidecarStack, tmp_path: Path) -> None:
    configs = ("login/approle-wrapped", "deliver/env-file")
    agent = with_wrapped_secret_id(Agent(bao, tmp_path, configs, "short", in_env_file))
    agent.start()
    agent.end()
    key = agent.key()
    assert key is not None
    bao.dies(key, seconds=SHORT_TTL + LATE)


@pytest.mark.parametrize("origin", ["spent", "another role's"])
def test_a_wrapped_secret_id_that_others_have_touched_logs_nobody_in(
    bao: SidecarStack, tmp_path: Path, origin: str
) -> None:
    agent = with_wrapped_secret_id(
        Agent(bao, tmp_path, ("login/approle-wrapped", "deliver/env-file"), BRIEF_ROLE, in_env_file)
    )
    if origin == "spent":
        token = (tmp_path / "wrapped-secret-id").read_text()
        assert bao.request("POST", "sys/wrapping/unwrap", {}, token=token).status_code == 200
        expected = "wrapping token is not valid or does not exist"
    else:
        bao.hvac().auth.approle.create_or_update_approle("other-agent", token_policies=["agent-app"])
        (tmp_path / "wrapped-secret-id").write_text(wrapped_secret_id(bao, "other-agent"))
        expected = "found=auth/approle/role/other-agent/secret-id"
    agent.process.start(lambda: "error getting path or data" in agent.process.log(), deadline=30)
    said = agent.process.log()
    agent.end()
    assert agent.key() is None
    assert expected in said


@pytest.mark.parametrize(("role", "reason"), [("demo", "permission denied"), ("", "AIKEYS_ROLE")])
def test_an_agent_that_can_have_no_key_ends_with_a_failure_that_says_why(
    bao: SidecarStack, tmp_path: Path, role: str, reason: str
) -> None:
    # Shipped with the agent's own dozen tries, of growing pauses.
    agent = with_wrapped_secret_id(
        Agent(
            bao,
            tmp_path,
            ("login/approle-wrapped", "deliver/env-file"),
            role,
            in_env_file,
            extra="vault { retry { num_retries = 1 } }",
        )
    )
    with pytest.raises(ProcessFailed, match=f"(?s)status 1 .*{reason}"):
        agent.process.start(lambda: False, deadline=30)
    assert not (tmp_path / "app.env").exists()
