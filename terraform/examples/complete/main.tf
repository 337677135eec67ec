# Everything there is, in one configuration: the engine, roles with each kind of login, the machine that rotates the
# management key, quotas and audit. The example `sidecar` comes before it.
#
#     export VAULT_ADDR=http://127.0.0.1:8300       # the sidecar
#     export TF_VAR_management_key=...              # the relay's; stays out of the state
#     terraform apply -var relay_url=https://relay.example/v1 -var management_key_version=1

provider "vault" {}

module "engine" {
  source = "../../modules/engine"

  path                   = var.mount
  description            = "AI keys of the whole company"
  base_url               = var.relay_url
  kv_mount               = var.kv_mount
  management_key         = var.management_key
  management_key_version = var.management_key_version
  default_lease_ttl      = 3600
  max_lease_ttl          = 86400
  connect_timeout        = 3
  request_timeout        = 20
}

# -- who logs in ------------------------------------------------------------------------------------------------------

resource "vault_auth_backend" "approle" {
  type = "approle"
  path = "ai-approle"
}

resource "vault_auth_backend" "kubernetes" {
  type = "kubernetes"
  path = "ai-kubernetes"
}

resource "vault_kubernetes_auth_backend_config" "cluster" {
  backend              = vault_auth_backend.kubernetes.path
  kubernetes_host      = var.kubernetes_host
  kubernetes_ca_cert   = var.kubernetes_ca_cert
  disable_local_ca_jwt = true
}

resource "vault_jwt_auth_backend" "ci" {
  path                   = "ai-ci"
  type                   = "jwt"
  jwt_validation_pubkeys = [trimspace(var.ci_public_key)]
}

# -- roles ------------------------------------------------------------------------------------------------------------

module "customer_service" {
  source = "../../modules/role"

  mount             = module.engine.path
  name              = "customer-service"
  shipped_policy    = "customer-service"
  ttl               = 900
  max_ttl           = 14400
  permissions       = ["chat"]
  allowed_models    = ["gpt-4.1", "gpt-4.1-mini"]
  rate_limit        = 120
  max_tpm           = 200000
  budget            = { limit = "25.00", period = "day" }
  metadata          = { service = "assistant", owner = "customer-service" }
  verify_revocation = true
  max_leases        = 50
  issue_limit       = 200
  issue_period      = 3600
  kubernetes = {
    mount            = vault_auth_backend.kubernetes.path
    service_accounts = ["assistant"]
    namespaces       = ["customer-service"]
    audience         = "vault"
  }
}

module "analytics" {
  source = "../../modules/role"

  mount          = module.engine.path
  name           = "analytics"
  shipped_policy = "analytics"
  ttl            = 1800
  max_ttl        = 3600
  permissions    = ["embeddings"]
  approle = {
    mount             = vault_auth_backend.approle.path
    token_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8"]
  }
}

module "evaluation" {
  source = "../../modules/role"

  mount       = module.engine.path
  name        = "evaluation"
  ttl         = 600
  max_ttl     = 3600
  permissions = ["chat"]
  budget      = { limit = "2.50" }
  jwt = {
    mount     = vault_jwt_auth_backend.ci.path
    audiences = ["https://vault.example"]
    claims    = { repository = "example/evaluation", ref = "refs/heads/main" }
  }
}

# -- people and machines ----------------------------------------------------------------------------------------------

resource "vault_policy" "people" {
  for_each = toset(["break-glass", "ml-engineer", "platform-admin"])

  name = "${replace(var.mount, "/", "-")}-${each.key}"
  policy = replace(
    replace(file("${path.module}/../../../policies/${each.key}.hcl"), "ai-keys", var.mount),
    "auth/approle/", "auth/${vault_auth_backend.approle.path}/"
  )
}

module "rotation_bot" {
  source = "../../modules/rotation-bot"

  mount      = module.engine.path
  kv_mount   = var.kv_mount
  apps       = [module.analytics.name]
  apps_mount = vault_auth_backend.approle.path
  approle = {
    mount              = vault_auth_backend.approle.path
    token_period       = 3600
    secret_id_num_uses = 1
    secret_id_ttl      = 600
  }
}

# -- bounds and records -----------------------------------------------------------------------------------------------

module "quotas" {
  source = "../../modules/quotas"

  mount       = module.engine.path
  mount_limit = { rate = 200 }
  role_limits = { (module.evaluation.name) = { rate = 60, interval = 60 } }
}

module "audit" {
  source = "../../modules/audit"

  devices = var.audit_file == null ? {} : {
    "ai-keys-file" = {
      type        = "file"
      description = "Every request, keys hashed"
      options     = { file_path = var.audit_file }
    }
  }
  headers = { "X-Request-Id" = false }
  auditor = { mount = module.engine.path, approle_mount = vault_auth_backend.approle.path }

  # Last, and by itself: see the module.
  depends_on = [
    module.customer_service,
    module.analytics,
    module.evaluation,
    module.rotation_bot,
    module.quotas,
    vault_policy.people,
    vault_kubernetes_auth_backend_config.cluster,
  ]
}
