# What the sidecar's identity is. No server is asked: the provider is a mock. Wrong variables:
# tests/terraform/wrong_inputs.py.

mock_provider "vault" {}

run "reaches_every_mount_and_the_key" {
  command = plan

  variables {
    mounts               = ["team-keys", "other/ai-keys"]
    management_key_paths = ["kv/data/relay"]
  }

  assert {
    condition = alltrue([
      for path in ["team-keys/*", "other/ai-keys/*", "sys/mounts/team-keys/tune", "kv/data/relay", "auth/token/lookup"] :
      strcontains(vault_policy.sidecar.policy, "\npath \"${path}\"")
    ])
    error_message = "The sidecar must reach each of its mounts, the management key and the look-up of tokens."
  }
  assert {
    condition     = !strcontains(vault_policy.sidecar.policy, "\npath \"ai-keys/*\"") && !strcontains(vault_policy.sidecar.policy, "\npath \"*\"")
    error_message = "The mount in the shipped policy is an example and must not come along."
  }
}
