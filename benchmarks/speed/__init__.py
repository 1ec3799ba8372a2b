"""What an edit costs: beside the peer, beside what the arithmetic itself must cost, and as the task grows."""
