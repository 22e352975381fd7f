"""What every test may use, and how its property tests choose their cases.

`make test` looks at the same cases each time: a counterexample that a random one happened upon would refuse a change that has nothing to do
with it. `make properties` looks at others each time; what it finds is mended, and its case pinned by @example.
"""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.evm", "tests.servers"]

# Property tests judge results, never speed: the machine that runs them is shared.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", settings.get_profile("same"), derandomize=False, print_blob=True)
settings.load_profile("same")
