variable "relay_url" {
  type        = string
  description = "Address of the relay's API."
}

variable "mount" {
  type        = string
  description = "Where the engine is mounted."
  default     = "ai-keys"
}

variable "kv_mount" {
  type        = string
  description = "The KV version 2 engine in which the management key stands."
  default     = "aikeys-kv"
}

variable "management_key" {
  type        = string
  description = "The relay's key for managing keys."
  default     = null
  ephemeral   = true
  sensitive   = true
}

variable "management_key_version" {
  type        = number
  description = "Raise it whenever management_key changes."
  default     = null
}

variable "kubernetes_host" {
  type        = string
  description = "Address of the cluster's API server."
  default     = "https://kubernetes.example:6443"
}

variable "kubernetes_ca_cert" {
  type        = string
  description = "Certificate, in PEM form, that the API server's is checked against."
}

variable "ci_public_key" {
  type        = string
  description = "Public key, in PEM form, with which the CI system's tokens are checked."
}

variable "audit_file" {
  type        = string
  description = "File of an audit device. Null for OpenBao, which has devices declared in its own configuration."
  default     = null
}
