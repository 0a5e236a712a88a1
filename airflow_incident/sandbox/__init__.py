"""A local incident.io for demos and tests. Imports nothing else of this package."""
