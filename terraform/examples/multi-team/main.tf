# Several teams at one engine: each with its own roles, budgets and logins, and a policy for its people that reaches no
# other team's keys. The management key is in place already, put there by a rotation bot or by hand.
#
#     export VAULT_ADDR=http://127.0.0.1:8300       # the sidecar
#     terraform apply -var relay_url=https://relay.example/v1

provider "vault" {}

locals {
  teams = {
    ml-engineering = {
      training = {
        ttl         = 3600
        max_ttl     = 28800
        permissions = ["chat", "embeddings"]
        rate_limit  = 300
        budget      = { limit = "100.00", period = "day" }
        approle     = { mount = vault_auth_backend.apps.path }
      }
      notebooks = {
        ttl              = 1800
        max_ttl          = 7200
        permissions      = ["chat"]
        budget           = { limit = "10.00" }
        creds_per_minute = 30
      }
    }
    customer-service = {
      assistant = {
        ttl            = 900
        max_ttl        = 3600
        permissions    = ["chat"]
        allowed_models = ["gpt-4.1-mini"]
        rate_limit     = 60
        budget         = { limit = "20.00", period = "day" }
        approle        = { mount = vault_auth_backend.apps.path }
      }
    }
    analytics = {
      reports = {
        ttl         = 600
        max_ttl     = 3600
        permissions = ["embeddings"]
        approle     = { mount = vault_auth_backend.apps.path }
      }
    }
  }
}

module "engine" {
  source = "../../modules/engine"

  path     = var.mount
  base_url = var.relay_url
}

resource "vault_auth_backend" "apps" {
  type = "approle"
  path = "team-apps"
}

resource "vault_auth_backend" "people" {
  type = "userpass"
  path = "team-people"
}

module "team" {
  source   = "../../modules/team"
  for_each = local.teams

  mount = module.engine.path
  team  = each.key
  roles = each.value
}

# The people's policies come by group: whoever joins a group may use its team's keys at once.
resource "vault_identity_group" "team" {
  for_each = local.teams

  name     = each.key
  type     = "internal"
  policies = [module.team[each.key].policy_name]

  # Who belongs to it is another configuration's business.
  external_member_entity_ids = true
}
