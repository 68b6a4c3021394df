"""What every layer knows: records, days, point-in-time logic, errors, names, columns, settings.

Pure: nothing here reads, writes or looks at the clock. It imports no other layer.
"""
