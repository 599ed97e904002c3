"""Heiwa: a websocket gateway for device fleets that stays calm while it is deployed."""

__version__ = "0.1.0"
