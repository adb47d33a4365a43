"""What the paper says, and what this project adds to it, measured: criteria, repairs, searches, forgetting, foreign models."""
