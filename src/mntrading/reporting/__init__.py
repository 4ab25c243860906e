"""Figures and templates of the reports."""
