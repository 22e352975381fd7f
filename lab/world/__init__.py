"""What hosts of the lab reach beyond themselves: one container with a mirror, a registry, the chains and a trader."""
