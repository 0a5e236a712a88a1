"""`make e2e`: real Airflows in trouble, and a neighbour who must not notice ours. See `__main__`."""
