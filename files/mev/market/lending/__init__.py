"""Lending markets, exact as their contracts compute them: one module a protocol, integers only."""
