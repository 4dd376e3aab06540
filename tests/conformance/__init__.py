"""Other people's WebSockets against ours: what has to be fetched first, and is not part of `make test`."""
