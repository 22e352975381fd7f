"""What goes out to a chain: the executor contract, signed transactions, and their fate."""
