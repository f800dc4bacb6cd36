"""What attacks send to a service."""
