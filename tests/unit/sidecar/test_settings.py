"""Every setting is checked before anything starts, and a wrong one is named with what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aikeys.errors import SettingsError
from aikeys.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(("AIKEYS_", "VAULT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIKEYS_AUTH_ROLE_ID", "role")


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def test_the_environment_goes_before_the_file_and_the_file_before_vaults_own_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://borrowed:1")
    assert load_settings().upstream_addr == "http://borrowed:1"
    path = written(
        tmp_path, 'upstream_addr = "http://file:1"\nthreads = 8\ntrusted_proxies = ["10.0.0.0/8"]\n'
    )
    assert load_settings(path).upstream_addr == "http://file:1"
    monkeypatch.setenv("AIKEYS_UPSTREAM_ADDR", "http://environment:1/")
    monkeypatch.setenv("AIKEYS_TRUSTED_PROXIES", "192.168.0.0/16, ::1")
    settings = load_settings(path)
    assert settings.upstream_addr == "http://environment:1"
    assert settings.threads == 8
    assert [str(network) for network in settings.proxy_networks] == ["192.168.0.0/16", "::1/128"]


def test_a_key_of_the_file_that_is_no_setting_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"lissten.*there are:.*listen"):
        load_settings(written(tmp_path, 'lissten = "127.0.0.1:1"\n'))


@pytest.mark.parametrize("text", ["listen = ", "[listen", "\x00"])
def test_a_file_that_is_no_toml_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match="no valid TOML"):
        load_settings(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the settings file"):
        load_settings(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("listen", "8210", "host:port"),
        ("listen", "127.0.0.1:99999", "host:port"),
        ("listen", ":8210", "host:port"),
        ("upstream_addr", "vault:8200", "http://host:port"),
        ("upstream_addr", "https://vault:8200/v1", "no path"),
        ("upstream_addr", "https://me@vault:8200", "no user"),
        ("upstream_ca_file", "/no/such/file", "cannot be read"),
        ("trusted_proxies", "everybody", "no network"),
        ("workers", 0, "greater than or equal to 1"),
        ("threads", 1, "greater than or equal to 2"),
        ("max_path_length", 100_000, "less than or equal to 8000"),
        ("upstream_timeout", 0, "greater than 0"),
        ("identity_cache", 61, "less than or equal to 60"),
        ("auth_method", "magic", "approle"),
        ("log_level", "loud", "debug"),
        ("tls_cert_file", __file__, "belong together"),
        ("auth_secret_id_file", "x", "exclude each other"),
        ("auth_role_id_file", __file__, "one of them"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_should_be(name: str, value: object, said: str) -> None:
    given: dict[str, Any] = {name: value}
    if name == "auth_secret_id_file":
        given["auth_wrapped_secret_id_file"] = "y"
    with pytest.raises(SettingsError) as refused:
        load_settings(**given)
    text = str(refused.value)
    assert said in text
    assert name.upper() in text or said in {"belong together", "exclude each other", "one of them"}


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(listen="x", threads=0, upstream_addr="y")
    for name in ("AIKEYS_LISTEN", "AIKEYS_THREADS", "AIKEYS_UPSTREAM_ADDR"):
        assert name in str(refused.value)


@pytest.mark.parametrize(
    ("method", "needed"),
    [
        ("approle", "AIKEYS_AUTH_ROLE_ID"),
        ("kubernetes", "AIKEYS_AUTH_KUBERNETES_ROLE"),
        ("token_file", "AIKEYS_AUTH_TOKEN_FILE"),
    ],
)
def test_each_way_to_log_in_says_what_it_needs(
    method: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIKEYS_AUTH_ROLE_ID")
    with pytest.raises(SettingsError, match=needed):
        load_settings(auth_method=method)


def test_a_secret_setting_does_not_show_itself() -> None:
    settings = load_settings(auth_role_id="very-secret-role-id")
    assert "very-secret-role-id" not in repr(settings)
    with pytest.raises(SettingsError) as refused:
        load_settings(auth_role_id="very-secret-role-id", listen="x")
    assert "very-secret-role-id" not in str(refused.value)


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("10.0.0.1:1", False),
    ],
)
def test_what_listens_beyond_this_machine_is_known(listen: str, loopback: bool) -> None:
    assert load_settings(listen=listen).loopback is loopback


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())
