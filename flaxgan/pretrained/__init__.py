"""Networks that others trained, and their files: read without running anything in them."""
