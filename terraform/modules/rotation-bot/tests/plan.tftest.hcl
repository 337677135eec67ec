# What the rotation bot's module plans. No server is asked: the provider is a mock. Wrong variables:
# tests/terraform/wrong_inputs.py.

mock_provider "vault" {}

run "reaches_the_entry_and_the_apps" {
  command = plan

  variables {
    mount      = "team-keys"
    apps       = ["reports", "chatbot"]
    apps_mount = "ai-apps"
  }

  assert {
    condition = alltrue([
      for path in [
        "secret/data/aikeys/relay",
        "auth/ai-apps/role/reports/secret-id",
        "auth/ai-apps/role/chatbot/secret-id-accessor/destroy",
        "sys/leases/revoke-prefix/team-keys/creds/*",
      ] : strcontains(vault_policy.bot.policy, "path \"${path}\"")
    ])
    error_message = "The bot must reach what it rotates."
  }
  assert {
    condition     = !strcontains(vault_policy.bot.policy, "ml-engineer") && !strcontains(vault_policy.bot.policy, "auth/approle/") && !strcontains(vault_policy.bot.policy, "\"ai-keys/")
    error_message = "The names in the shipped policy are examples and must not come along."
  }
}

run "leaves_the_key_out_where_it_is_not_the_bots" {
  command = plan

  variables {
    kv_name = null
  }

  assert {
    condition     = !strcontains(vault_policy.bot.policy, "secret/data")
    error_message = "Without an entry the bot must reach none."
  }
}
