"""What is promised about a failure, and the one use case behind every entry point."""
