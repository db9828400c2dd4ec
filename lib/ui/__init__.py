"""Everything Streamlit that pages share. Nothing here computes a metric."""
