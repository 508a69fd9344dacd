"""Where the settings of a run come from: layers, files, the environment."""
