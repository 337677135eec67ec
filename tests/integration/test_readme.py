"""Every block of the README does what the README says: it is taken from there and run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests import documents
from tests.documents import ENVIRONMENT, ROOT, Block, in_dev, shows

README = ROOT / "README.md"


def blocks(language: str) -> list[Block]:
    return [block for block in documents.blocks(README) if block.language == language]


def test_every_block_has_a_test() -> None:
    text = (ROOT / "README.md").read_text()
    assert set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) == {"sh", "console", "python", "hcl"}
    shell = [block.text.strip() for block in blocks("sh")]
    assert shell == ["make run", "make test", "aikeys serve --check"]


def test_make_run_shows_a_first_key_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as output:
        run = subprocess.Popen(
            ["make", "run"], cwd=ROOT, stdout=output, stderr=output, start_new_session=True, env=ENVIRONMENT
        )
    try:
        end = time.monotonic() + 120
        while "Ctrl-C ends all of it." not in log.read_text():
            assert run.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)
        run.wait(30)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
    shown = log.read_text()
    assert "refused 401" in shown
    for name in ("VAULT_ADDR", "VAULT_TOKEN"):
        assert f"$ export {name}=" in shown


def test_make_test_is_what_ci_calls() -> None:
    assert "make test" in (ROOT / ".ci/run").read_text()
    planned = subprocess.run(
        ["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True, env=ENVIRONMENT
    )
    assert "-m pytest" in planned.stdout


@pytest.mark.parametrize("block", blocks("console"), ids=lambda block: f"line-{block.line}")
def test_a_session_shows_what_the_readme_shows(block: Block) -> None:
    """`…` stands for what differs between two runs, within a line or for whole lines."""
    steps = block.steps()
    assert steps
    preparation = "" if "list sys/leases" not in block.text else "bao read ai-keys/creds/demo >/dev/null\n"
    script = preparation + "".join(f"{command}\necho; echo '--- next'\n" for command, _ in steps)
    shown = in_dev("bash", "-ec", script)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    printed = shown.stdout.split("--- next\n")
    for (command, expected), actual in zip(steps, printed, strict=False):
        assert shows(expected, actual), f"$ {command}\n{actual}"


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: f"line-{block.line}")
def test_an_app_reads_and_uses_a_key_as_the_readme_says(block: Block, tmp_path: Path) -> None:
    script = tmp_path / "app.py"
    script.write_text(block.text)
    shown = in_dev(sys.executable, str(script))
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.strip()) > 0


def test_vault_agent_renders_the_template_of_the_readme(tmp_path: Path) -> None:
    (template,) = [block.text for block in blocks("hcl") if block.text.startswith("template")]
    (tmp_path / "agent.hcl").write_text(
        f"""
        exit_after_auth = true
        auto_auth {{
          method "approle" {{
            config = {{
              role_id_file_path = "{tmp_path}/role-id"
              secret_id_file_path = "{tmp_path}/secret-id"
            }}
          }}
        }}
        """
        + template.replace('"app.env"', f'"{tmp_path}/app.env"')
    )
    script = f"""
        printf %s "$AIKEYS_ROLE_ID" > {tmp_path}/role-id
        printf %s "$AIKEYS_SECRET_ID" > {tmp_path}/secret-id
        unset VAULT_TOKEN BAO_TOKEN
        bao agent -config={tmp_path}/agent.hcl
    """
    shown = in_dev("bash", "-ec", script)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    rendered = (tmp_path / "app.env").read_text()
    assert re.fullmatch(r"OPENAI_API_KEY=sk-holysheep-\w+\nOPENAI_BASE_URL=http://\S+/v1\n", rendered)


def test_the_policy_of_the_readme_lets_its_holder_read_one_role_and_no_other(tmp_path: Path) -> None:
    (policy,) = [block.text for block in blocks("hcl") if block.text.startswith("path")]
    (tmp_path / "reader.hcl").write_text(policy)
    script = f"""
        bao secrets enable -path=ai-keys-team-a ai-keys
        bao write ai-keys-team-a/config base_url="$AIKEYS_RELAY_ADDR/v1" management_key="$AIKEYS_RELAY_MANAGEMENT_KEY"
        bao write ai-keys-team-a/roles/chat ttl=1h permissions=chat
        bao write ai-keys-team-a/roles/other ttl=1h permissions=chat
        bao policy write reader {tmp_path}/reader.hcl
        export BAO_TOKEN=$(bao token create -policy=reader -field=token) VAULT_TOKEN=
        bao read -field=api_key ai-keys-team-a/creds/chat
        ! bao read ai-keys-team-a/creds/other
        ! bao write ai-keys-team-a/creds/chat ttl=1h
    """
    shown = in_dev("bash", "-ec", script)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stderr.count("permission denied") == 2


def test_serve_check_names_what_is_wrong_and_what_is_right(tmp_path: Path) -> None:
    script = f"""
        umask 077
        printf %s "$VAULT_TOKEN" > {tmp_path}/token
        export AIKEYS_AUTH_METHOD=token_file AIKEYS_AUTH_TOKEN_FILE={tmp_path}/token AIKEYS_DATA_DIR={tmp_path}/data
        aikeys serve --check
        ! AIKEYS_UPSTREAM_ADDR=http://127.0.0.1:1 aikeys serve --check
    """
    shown = in_dev("bash", "-ec", script)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "WRONG" in shown.stdout + shown.stderr
