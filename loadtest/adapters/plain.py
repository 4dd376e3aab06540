"""A server that echoes: a text frame in comes out to everybody in the room, as it is."""

from loadtest.adapters import Adapter

ADAPTER = Adapter
