"""Pages and figures about a run or a dataset."""

from vitrail.callable_folder import make_callable

make_callable(__name__, "vitrail.api.run_report")
