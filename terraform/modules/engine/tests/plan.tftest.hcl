# What the engine's module plans. No server is asked: the provider is a mock. Wrong variables:
# tests/terraform/wrong_inputs.py.

mock_provider "vault" {
  mock_data "vault_generic_secret" {
    defaults = {
      data_json = "{\"secret\":[\"ai-keys\",\"kv\"]}"
    }
  }
}

variables {
  base_url = "https://relay.example/v1"
}

run "names_where_the_key_stands" {
  command = plan

  variables {
    management_key         = "sk-holysheep-admin-example"
    management_key_version = 1
  }

  assert {
    condition     = jsondecode(vault_generic_endpoint.config.data_json)["management_key_ref"] == "secret/data/aikeys/relay#management_key"
    error_message = "The config must name the entry that the module writes."
  }
  assert {
    condition     = !can(jsondecode(vault_generic_endpoint.config.data_json)["management_key"])
    error_message = "The config must not hold the key itself."
  }
  assert {
    condition     = length(vault_kv_secret_v2.relay) == 1 && vault_mount.this.type == "ai-keys"
    error_message = "The entry and the mount must be made."
  }
  assert {
    condition     = output.management_key_path == "secret/data/aikeys/relay"
    error_message = "The path that the sidecar must read must come out."
  }
}

run "leaves_the_entry_alone_without_a_version" {
  command = plan

  assert {
    condition     = length(vault_kv_secret_v2.relay) == 0
    error_message = "Without a version the entry is somebody else's."
  }
}

run "names_a_signing_secret_too" {
  command = plan

  variables {
    signing_secret_field = "signing"
  }

  assert {
    condition     = jsondecode(vault_generic_endpoint.config.data_json)["signing_secret_ref"] == "secret/data/aikeys/relay#signing"
    error_message = "The config must name the signing secret's field."
  }
}

run "takes_http_of_this_machine" {
  command = plan

  variables {
    base_url = "http://127.0.0.1:8080/v1"
  }
}

run "refuses_versions_that_differ" {
  command = plan

  variables {
    management_key         = "sk-holysheep-admin-example"
    management_key_version = 2
    signing_secret         = "hs-sign-example"
    signing_secret_version = 1
  }

  expect_failures = [vault_kv_secret_v2.relay]
}

run "tells_a_vault_without_the_sidecar" {
  command = plan

  override_data {
    target = data.vault_generic_secret.catalog
    values = {
      data_json = "{\"secret\":[\"kv\",\"pki\"]}"
    }
  }

  expect_failures = [data.vault_generic_secret.catalog]
}
