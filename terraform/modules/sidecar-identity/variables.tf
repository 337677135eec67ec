variable "mounts" {
  type        = list(string)
  description = "Every path that the engine is mounted at, or is to be."
  default     = ["ai-keys"]
  nullable    = false

  validation {
    condition     = length(var.mounts) > 0 && alltrue([for mount in var.mounts : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", mount))])
    error_message = "mounts must name at least one path, without slashes at the ends and without *, such as [\"ai-keys\"]."
  }
}

variable "management_key_paths" {
  type        = list(string)
  description = "API paths of the KV entries that configs name: the output `management_key_path` of the module `engine`."
  default     = ["secret/data/aikeys/relay"]
  nullable    = false

  validation {
    condition     = alltrue([for path in var.management_key_paths : can(regex("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)+$", path))])
    error_message = "management_key_paths must be whole API paths of KV entries without *, such as [\"secret/data/aikeys/relay\"]."
  }
  validation {
    condition     = !anytrue([for path in var.management_key_paths : contains(["sys", "auth", "identity", "cubbyhole"], split("/", path)[0])])
    error_message = "management_key_paths must lie in KV engines, not in sys, auth, identity or cubbyhole."
  }
}

variable "name" {
  type        = string
  description = "Name of the sidecar's roles in the auth methods."
  default     = "aikeys-sidecar"
  nullable    = false
}

variable "policy_name" {
  type        = string
  description = "Name of the sidecar's policy."
  default     = "aikeys-sidecar"
  nullable    = false
}

variable "approle" {
  type        = any
  description = "An AppRole for the sidecar: see the module `login`. Null: none."
  default     = { token_ttl = 3600, token_max_ttl = 86400, secret_id_num_uses = 0, secret_id_ttl = 2592000 }
}

variable "kubernetes" {
  type        = any
  description = "A Kubernetes role for the sidecar: see the module `login`. Null: none."
  default     = null
}
