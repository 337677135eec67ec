# The engine's mount, its lease TTLs and the relay at which it mints.
#
# The relay's management key never enters state, plan or log: give it as the ephemeral variable `management_key`, with
# a `management_key_version` that you raise whenever it changes. It is written into a KV version 2 engine by a
# write-only argument, and the config names only where it stands. Without a version nothing is written there: then put
# the key in place by other means, a rotation bot for example.
#
# The token that applies this must be allowed to read that KV entry, and so must the sidecar's own identity (module
# `sidecar-identity`, `management_key_paths`).
#
# Destroying the module disables the mount, which revokes every key that was minted there.

locals {
  key_path    = "${var.kv_mount}/data/${var.kv_name}"
  has_signing = var.signing_secret_version != null || var.signing_secret_field != null

  # All of them every time: an empty value unsets what somebody wrote by hand, and what is sent is what drift is
  # measured on.
  config = {
    relay              = var.relay
    base_url           = var.base_url
    management_key_ref = "${local.key_path}#${var.management_key_field}"
    signing_secret_ref = local.has_signing ? "${local.key_path}#${coalesce(var.signing_secret_field, "signing_secret")}" : ""
    signing_key_id     = var.signing_key_id
    signature_version  = var.signature_version
    connect_timeout    = var.connect_timeout
    request_timeout    = var.request_timeout
    ca_cert            = var.ca_cert
    verify_connection  = var.verify_connection
  }
}

# Every Vault lists the engines it knows; only one behind the sidecar (or with the plugin) knows this.
data "vault_generic_secret" "catalog" {
  path = "sys/plugins/catalog"

  lifecycle {
    postcondition {
      condition     = contains(jsondecode(self.data_json)["secret"], var.engine_type)
      error_message = "The Vault that the provider talks to does not know the secrets engine \"${var.engine_type}\". Point VAULT_ADDR (the provider's address) at the aikeys sidecar, not at the Vault behind it."
    }
  }
}

resource "vault_kv_secret_v2" "relay" {
  count = var.management_key_version == null ? 0 : 1

  mount                = var.kv_mount
  name                 = var.kv_name
  data_json_wo_version = var.management_key_version
  data_json_wo = jsonencode(merge(
    { (var.management_key_field) = var.management_key },
    var.signing_secret_version == null ? {} : {
      (coalesce(var.signing_secret_field, "signing_secret")) = var.signing_secret
    },
  ))
  delete_all_versions = true

  lifecycle {
    precondition {
      condition     = var.signing_secret_version == null || var.signing_secret_version == var.management_key_version
      error_message = "signing_secret stands in one entry with management_key: give both the same version, and raise it when either changes."
    }
  }
}

resource "vault_mount" "this" {
  path                      = var.path
  type                      = var.engine_type
  description               = var.description
  default_lease_ttl_seconds = var.default_lease_ttl
  max_lease_ttl_seconds     = var.max_lease_ttl

  # Disabling the mount revokes its keys, for which the management key is needed: so the mount goes first.
  depends_on = [vault_kv_secret_v2.relay, data.vault_generic_secret.catalog]
}

resource "vault_generic_endpoint" "config" {
  path                 = "${vault_mount.this.path}/config"
  data_json            = jsonencode(local.config)
  ignore_absent_fields = true

  # It goes with the mount. By itself it would be refused while keys live that need it for their revocation.
  disable_delete = true

  # Written again when the management key is, so that the relay is asked at once whether it accepts it.
  lifecycle {
    replace_triggered_by = [terraform_data.management_key_version]
  }
  depends_on = [vault_kv_secret_v2.relay]
}

resource "terraform_data" "management_key_version" {
  input = var.management_key_version
}
