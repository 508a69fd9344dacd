"""A model behind HTTP: bounded queues, deadlines, small batches."""

from vitrail.callable_folder import make_callable

make_callable(__name__, "vitrail.api.serving")
