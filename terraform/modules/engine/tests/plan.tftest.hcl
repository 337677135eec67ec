# What the engine's module plans, and what it refuses. No server is asked: the provider is a mock.

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

run "refuses_plain_http" {
  command = plan

  variables {
    base_url = "http://relay.example/v1"
  }

  expect_failures = [var.base_url]
}

run "takes_http_of_this_machine" {
  command = plan

  variables {
    base_url = "http://127.0.0.1:8080/v1"
  }
}

run "refuses_a_path_of_vaults_own" {
  command = plan

  variables {
    path = "sys/ai-keys"
  }

  expect_failures = [var.path]
}

run "refuses_a_path_with_slashes_at_its_ends" {
  command = plan

  variables {
    path = "ai-keys/"
  }

  expect_failures = [var.path]
}

run "refuses_ttls_the_wrong_way_round" {
  command = plan

  variables {
    default_lease_ttl = 7200
    max_lease_ttl     = 3600
  }

  expect_failures = [var.max_lease_ttl]
}

run "refuses_a_key_with_a_line_break" {
  command = plan

  variables {
    management_key         = "sk-holysheep-admin-example\n"
    management_key_version = 1
  }

  expect_failures = [var.management_key]
}

run "refuses_an_entry_given_by_its_api_path" {
  command = plan

  variables {
    kv_name = "data/aikeys/relay"
  }

  expect_failures = [var.kv_name]
}

run "refuses_other_signatures_and_timeouts" {
  command = plan

  variables {
    signature_version = "v3"
    connect_timeout   = 0
    request_timeout   = 91
    ca_cert           = "ca.pem"
  }

  expect_failures = [var.signature_version, var.connect_timeout, var.request_timeout, var.ca_cert]
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
