"""What a version must show before it may become champion. Pure: no rows are read or written."""
