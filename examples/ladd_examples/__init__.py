"""Small programs that stand in for other people's: what a user of ladd-data would already have."""
