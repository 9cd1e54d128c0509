"""Python types as JSON schemas, and JSON text as values of them."""
