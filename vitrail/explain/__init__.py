"""Why a model decides as it does: attention, relevance, gradients, occlusion; and looks inside."""
