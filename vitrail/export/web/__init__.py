"""A page that classifies in the visitor's browser: a folder for any web server."""
