"""What layouts mean, in plain Python."""
