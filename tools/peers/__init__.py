"""Who is compared at equal measured latency, and how each is brought there. See compare.py."""
