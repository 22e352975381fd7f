"""What every service needs: configuration, secrets by reference, storage, logs, life under systemd."""
