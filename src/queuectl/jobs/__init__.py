"""What a job is and how it lives: pure decisions, no input or output, `now` passed in."""
