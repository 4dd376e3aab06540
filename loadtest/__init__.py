"""Measures the chat room from outside, as its members meet it: over sockets, never through its code."""
