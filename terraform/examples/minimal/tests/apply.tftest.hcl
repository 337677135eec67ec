# Applies the example at the sidecar that VAULT_ADDR names, changes it and destroys it. It needs TF_VAR_relay_url and
# TF_VAR_management_key.

variables {
  management_key_version = 1
}

run "plan" {
  command = plan

  assert {
    condition     = output.creds_path == "ai-keys/creds/chatbot"
    error_message = "The app must be told what to read."
  }
}

run "apply" {
  command = apply

  assert {
    condition     = length(output.role_id) == 36
    error_message = "The app must be told what to log in with."
  }
}

run "change" {
  command = apply

  variables {
    ttl = 300
  }

  assert {
    condition     = output.role_id == run.apply.role_id
    error_message = "A change of the role must keep the app's login."
  }
}

run "too_long_a_ttl" {
  command = plan

  variables {
    ttl = 86400
  }

  expect_failures = [var.ttl]
}
