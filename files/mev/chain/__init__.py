"""How chains are heard and spoken to: one WebSocket a chain, fixed-layout ABI, blocks with their logs."""
