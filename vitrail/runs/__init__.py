"""What lies in a run directory, and reading it safely."""

from vitrail.callable_folder import make_callable

make_callable(__name__, "vitrail.api.run_list")
