"""What every layer uses: records, days, point-in-time logic, errors, names, columns and settings.

Everything here is pure: it reads and writes nothing. It imports no other layer.
"""
