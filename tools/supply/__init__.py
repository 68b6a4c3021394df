"""What the product is built from: its locks, its images, a bill of materials, known vulnerabilities, licences.

`policy.toml` is what the team decided about them. `inventory` runs inside the image and needs only Python.
"""
