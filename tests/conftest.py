"""For all tests: no example of a property is a failure because the machine was slow."""

from hypothesis import HealthCheck, settings

settings.register_profile("usmd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("usmd")
