"""The page that classifies images in a browser: own markup, styles and scripts."""
