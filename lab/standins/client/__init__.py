"""The program inside every stand-in: packed as one zip file that Debian's Python runs; needs python3-aiohttp."""
