"""What the project promises, one sentence a test."""
