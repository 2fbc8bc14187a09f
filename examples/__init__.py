"""The demo organisations, the form they use, and a stand-in KoboToolbox server to load them from."""
