"""Files that hold many images, and the index that says where each of them lies."""
