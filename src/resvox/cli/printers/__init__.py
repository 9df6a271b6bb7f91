"""What each command prints. Results go to stdout; progress, remarks and errors to stderr."""
