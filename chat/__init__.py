"""The parts of the chat room server; `chatroom.py` joins them."""
