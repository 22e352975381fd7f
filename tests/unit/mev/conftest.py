"""Property tests judge results, never speed: the machine that runs them is shared."""

from hypothesis import HealthCheck, settings

settings.register_profile("mev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mev")
