"""What stands before the replicas: Ray Serve's proxy, or HAProxy."""
