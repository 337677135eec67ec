# The least there is to it: the engine, one role, and an AppRole for the app that uses its keys.
#
#     export VAULT_ADDR=http://127.0.0.1:8300       # the sidecar
#     export TF_VAR_management_key=...              # the relay's; stays out of the state
#     terraform apply -var relay_url=https://relay.example/v1 -var management_key_version=1

provider "vault" {}

module "engine" {
  source = "../../modules/engine"

  path                   = var.mount
  base_url               = var.relay_url
  management_key         = var.management_key
  management_key_version = var.management_key_version
  default_lease_ttl      = 900
  max_lease_ttl          = 3600
}

resource "vault_auth_backend" "apps" {
  type        = "approle"
  path        = "ai-apps"
  description = "Apps that use AI keys"
}

module "chatbot" {
  source = "../../modules/role"

  mount          = module.engine.path
  name           = "chatbot"
  ttl            = var.ttl
  max_ttl        = 3600
  permissions    = ["chat"]
  allowed_models = ["gpt-4.1-mini"]
  rate_limit     = 60
  budget         = { limit = "5.00" }
  approle        = { mount = vault_auth_backend.apps.path }
}
