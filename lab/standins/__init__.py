"""Stand-ins for the chain clients, in upstream's package formats. None of them is the real client."""
