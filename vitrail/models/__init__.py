"""Models: architectures as plain modules, and their configurations."""

from vitrail.callable_folder import make_callable

make_callable(__name__, "vitrail.api.model_list")
