"""Records, days, point-in-time logic, errors, names, columns and settings for all layers.

Everything here is pure: it writes nothing, and reads only what people wrote (`yaml_file`, `code`). It imports no other
layer.
"""
