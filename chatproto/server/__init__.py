"""What `twistd chat` is."""
