"""Run a bundle that somebody sent: only what the audit found clean, or what the receiver allows."""
