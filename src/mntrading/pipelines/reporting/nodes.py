"""stub for a moment"""
