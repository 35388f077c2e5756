"""Rows: read from files, made into tokens with a reason for each one dropped, and handed out in micro-batches."""
