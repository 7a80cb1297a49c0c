"""The Twisted side: protocols and the factory around the hub, and each transport's send queue."""
