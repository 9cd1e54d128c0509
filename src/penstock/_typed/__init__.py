"""Python types as JSON schemas, and JSON text decoded into them."""
