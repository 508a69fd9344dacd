"""A model that leaves the machine: engine files, and the gate that proves them equal to torch."""

from vitrail.callable_folder import make_callable

make_callable(__name__, "vitrail.api.engine_export")
