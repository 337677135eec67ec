variable "relay_url" {
  type        = string
  description = "Address of the relay's API."
}

variable "mount" {
  type        = string
  description = "Where the engine is mounted."
  default     = "team-keys"
}
