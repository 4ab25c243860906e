"""The dashboard: what is stored as pictures and tables, and buttons that ask the API to run."""
