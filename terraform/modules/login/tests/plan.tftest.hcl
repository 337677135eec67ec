# What the login module plans, and what it refuses. No server is asked: the provider is a mock.

mock_provider "vault" {}

variables {
  name     = "app"
  policies = ["app"]
}

run "makes_only_what_is_asked_for" {
  command = plan

  variables {
    approle = {}
  }

  assert {
    condition     = vault_approle_auth_backend_role.this[0].secret_id_num_uses == 1 && vault_approle_auth_backend_role.this[0].secret_id_ttl == 600
    error_message = "A secret id must work once and for ten minutes, unless told otherwise."
  }
  assert {
    condition     = length(vault_kubernetes_auth_backend_role.this) == 0 && length(vault_jwt_auth_backend_role.this) == 0
    error_message = "Logins that were not asked for must not be made."
  }
}

run "refuses_root" {
  command = plan

  variables {
    policies = ["root"]
  }

  expect_failures = [var.policies]
}

run "refuses_secret_ids_without_an_end" {
  command = plan

  variables {
    approle = { secret_id_ttl = 0 }
  }

  expect_failures = [var.approle]
}

run "refuses_what_is_no_cidr" {
  command = plan

  variables {
    approle = { token_bound_cidrs = ["10.0.0.0/33"] }
  }

  expect_failures = [var.approle]
}

run "refuses_every_pod_of_the_cluster" {
  command = plan

  variables {
    kubernetes = { service_accounts = ["*"], namespaces = ["*"] }
  }

  expect_failures = [var.kubernetes]
}

run "refuses_every_token_of_an_issuer" {
  command = plan

  variables {
    jwt = { audiences = ["vault"] }
  }

  expect_failures = [var.jwt]
}

run "refuses_tokens_made_for_others" {
  command = plan

  variables {
    jwt = { audiences = [], subject = "repo:example/app" }
  }

  expect_failures = [var.jwt]
}
