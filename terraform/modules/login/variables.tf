variable "name" {
  type        = string
  description = "Name of the roles, unless they have names of their own."
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$", var.name))
    error_message = "name must consist of letters, digits, underscores, dots and dashes, and begin and end with none of the last two."
  }
}

variable "policies" {
  type        = list(string)
  description = "Policies of the tokens."
  nullable    = false

  validation {
    condition     = length(var.policies) > 0 && !contains(var.policies, "root")
    error_message = "policies must name at least one policy, and root is none of them."
  }
}

variable "approle" {
  type = object({
    mount                 = optional(string, "approle")
    name                  = optional(string)
    token_ttl             = optional(number, 1200)
    token_max_ttl         = optional(number, 3600)
    token_period          = optional(number)
    token_bound_cidrs     = optional(list(string), [])
    token_num_uses        = optional(number)
    secret_id_ttl         = optional(number, 600)
    secret_id_num_uses    = optional(number, 1)
    secret_id_bound_cidrs = optional(list(string), [])
  })
  description = "An AppRole. TTLs in seconds. A secret id lives ten minutes and works once, unless told otherwise. `token_num_uses` must stay unset for apps that read keys with a lease."
  default     = null

  validation {
    condition     = var.approle == null || try(var.approle.token_period != null || var.approle.token_ttl <= var.approle.token_max_ttl, false)
    error_message = "approle.token_ttl must not be greater than approle.token_max_ttl."
  }
  validation {
    condition = var.approle == null || alltrue([
      for cidr in concat(try(var.approle.token_bound_cidrs, []), try(var.approle.secret_id_bound_cidrs, [])) : can(cidrhost(cidr, 0))
    ])
    error_message = "approle.token_bound_cidrs and approle.secret_id_bound_cidrs must be CIDR blocks, such as \"10.1.0.0/16\"."
  }
  validation {
    condition     = var.approle == null || try(var.approle.secret_id_ttl > 0 || length(var.approle.secret_id_bound_cidrs) > 0, false)
    error_message = "approle.secret_id_ttl of 0 makes secret ids that never end: give seconds, or bind them with approle.secret_id_bound_cidrs."
  }
}

variable "kubernetes" {
  type = object({
    mount            = optional(string, "kubernetes")
    name             = optional(string)
    service_accounts = list(string)
    namespaces       = list(string)
    audience         = optional(string)
    token_ttl        = optional(number, 1200)
    token_max_ttl    = optional(number, 3600)
    token_period     = optional(number)
  })
  description = "A role of the Kubernetes auth method. TTLs in seconds."
  default     = null

  validation {
    condition     = var.kubernetes == null || try(length(var.kubernetes.service_accounts) > 0 && length(var.kubernetes.namespaces) > 0, false)
    error_message = "kubernetes.service_accounts and kubernetes.namespaces must each name at least one."
  }
  validation {
    condition     = var.kubernetes == null || !try(contains(var.kubernetes.service_accounts, "*") && contains(var.kubernetes.namespaces, "*"), false)
    error_message = "kubernetes.service_accounts and kubernetes.namespaces must not both be \"*\": every pod of the cluster could log in."
  }
}

variable "jwt" {
  type = object({
    mount         = optional(string, "jwt")
    name          = optional(string)
    user_claim    = optional(string, "sub")
    audiences     = list(string)
    subject       = optional(string)
    claims        = optional(map(string), {})
    claims_type   = optional(string, "string")
    token_ttl     = optional(number, 1200)
    token_max_ttl = optional(number, 3600)
    token_period  = optional(number)
  })
  description = "A role of the JWT auth method, for tokens of CI systems and clouds. TTLs in seconds."
  default     = null

  validation {
    condition     = var.jwt == null || try(length(var.jwt.audiences) > 0, false)
    error_message = "jwt.audiences must name at least one: a token that was made for somebody else must not work here."
  }
  validation {
    condition     = var.jwt == null || try(var.jwt.subject != null || length(var.jwt.claims) > 0, false)
    error_message = "jwt needs a subject or claims: without either, every token of the issuer could log in."
  }
  validation {
    condition     = var.jwt == null || try(contains(["string", "glob"], var.jwt.claims_type), false)
    error_message = "jwt.claims_type must be \"string\" or \"glob\"."
  }
}
