"""The shell: one event loop, gRPC services, sessions and device queues around the core."""
