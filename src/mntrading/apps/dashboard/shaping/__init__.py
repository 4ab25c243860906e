"""From what is stored to what a page shows: pure functions, no Streamlit, no files, no clock."""
