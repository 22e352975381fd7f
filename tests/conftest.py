"""What every test may use."""

pytest_plugins = ["tests.evm", "tests.servers"]
