"""What a command shows: lines, tables, progress, sheets of images."""
