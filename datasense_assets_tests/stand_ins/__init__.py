"""Stand-ins for servers that tests cannot reach, each proven by somebody else's client."""
