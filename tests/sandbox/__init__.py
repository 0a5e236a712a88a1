"""The sandbox keeps incident.io's contract, and breaks it exactly as told."""
