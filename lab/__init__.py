"""The lab: hosts, an internet and chains on one machine, made and removed by this checkout alone."""
