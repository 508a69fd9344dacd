"""What is asked over HTTP: one table of endpoints, read by the router and by /openapi.json."""
