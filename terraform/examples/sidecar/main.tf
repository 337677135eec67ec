# First step, at the Vault itself and before there is a sidecar: what the sidecar logs in with, and where the relay's
# management key will stand. Everything else is applied through the sidecar.
#
#     export VAULT_ADDR=https://vault.example:8200  # the Vault behind the sidecar
#     terraform apply

provider "vault" {}

resource "vault_auth_backend" "sidecars" {
  type        = "approle"
  path        = var.approle_path
  description = "The aikeys sidecar itself"
}

resource "vault_mount" "kv" {
  path        = var.kv_mount
  type        = "kv" # not "kv-v2": imported, that would be replaced, with all that is in it
  options     = { version = "2" }
  description = "The relay's management key"
}

module "identity" {
  source = "../../modules/sidecar-identity"

  name                 = var.name
  policy_name          = var.name
  mounts               = var.mounts
  management_key_paths = ["${vault_mount.kv.path}/data/aikeys/relay"]
  approle = {
    mount              = vault_auth_backend.sidecars.path
    token_ttl          = 3600
    token_max_ttl      = 86400
    secret_id_ttl      = 2592000
    secret_id_num_uses = 0
  }
}
