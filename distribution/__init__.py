"""What turns files/mev into an artefact that a host installs without a network."""
