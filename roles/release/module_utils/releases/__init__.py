"""What a host does with a release: fetch, verify, unpack, keep, switch. Standard library only; used by the role's modules."""
