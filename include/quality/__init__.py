"""What is expected of deliveries, and what may be shown of rows that break it. Pure: no tables, no verdicts."""
