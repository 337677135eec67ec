# How an app or a machine logs in for a set of policies: an AppRole, a Kubernetes role, a JWT role, or several of them.
# The auth methods themselves must be enabled. The other modules use this one.
#
# No secret id is made here, since it would stand in the state: have it made where it is needed, wrapped, for example
# with `vault write -f -wrap-ttl=5m auth/approle/role/NAME/secret-id`.

resource "vault_approle_auth_backend_role" "this" {
  count = var.approle == null ? 0 : 1

  backend               = var.approle.mount
  role_name             = coalesce(var.approle.name, var.name)
  token_policies        = var.policies
  token_ttl             = var.approle.token_ttl
  token_max_ttl         = var.approle.token_max_ttl
  token_period          = var.approle.token_period
  token_bound_cidrs     = var.approle.token_bound_cidrs
  token_num_uses        = var.approle.token_num_uses
  secret_id_ttl         = var.approle.secret_id_ttl
  secret_id_num_uses    = var.approle.secret_id_num_uses
  secret_id_bound_cidrs = var.approle.secret_id_bound_cidrs
}

resource "vault_kubernetes_auth_backend_role" "this" {
  count = var.kubernetes == null ? 0 : 1

  backend                          = var.kubernetes.mount
  role_name                        = coalesce(var.kubernetes.name, var.name)
  bound_service_account_names      = var.kubernetes.service_accounts
  bound_service_account_namespaces = var.kubernetes.namespaces
  audience                         = var.kubernetes.audience
  token_policies                   = var.policies
  token_ttl                        = var.kubernetes.token_ttl
  token_max_ttl                    = var.kubernetes.token_max_ttl
  token_period                     = var.kubernetes.token_period
}

resource "vault_jwt_auth_backend_role" "this" {
  count = var.jwt == null ? 0 : 1

  backend           = var.jwt.mount
  role_name         = coalesce(var.jwt.name, var.name)
  role_type         = "jwt"
  user_claim        = var.jwt.user_claim
  bound_audiences   = var.jwt.audiences
  bound_subject     = var.jwt.subject
  bound_claims      = var.jwt.claims
  bound_claims_type = var.jwt.claims_type
  token_policies    = var.policies
  token_ttl         = var.jwt.token_ttl
  token_max_ttl     = var.jwt.token_max_ttl
  token_period      = var.jwt.token_period
}
