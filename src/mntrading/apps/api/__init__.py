"""The HTTP API: runs on demand, one at a time, and everything stored, read-only: ``make api``."""
