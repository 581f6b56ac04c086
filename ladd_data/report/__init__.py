"""The report room: pictures of what a dataset holds."""
