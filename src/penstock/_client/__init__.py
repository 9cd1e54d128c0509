"""The client: its settings, its resources, and how a call is made from them."""
