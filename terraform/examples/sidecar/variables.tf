variable "name" {
  type        = string
  description = "Name of the sidecar's policy and AppRole."
  default     = "aikeys-sidecar"
}

variable "approle_path" {
  type        = string
  description = "Where the AppRole method for sidecars is enabled."
  default     = "sidecars"
}

variable "kv_mount" {
  type        = string
  description = "Where a KV engine is enabled for the management key."
  default     = "aikeys-kv"
}

variable "mounts" {
  type        = list(string)
  description = "Paths that the engine is to be mounted at."
  default     = ["ai-keys", "team-keys"]
}
