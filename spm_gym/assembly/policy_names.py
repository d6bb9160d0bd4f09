"""Names of the policies that an evaluation compares."""

MODEL_ARMS = {"agent", "shuffled"}
"""Need a trained agent."""
PROCESS_ARMS = {"blind", "mask", "counting", "counting-mask", "oracle"}
"""Are computed from the simulator."""
ARMS = ("agent", "random", "blind", "mask", "counting", "counting-mask", "oracle", "shuffled")
DEFAULT_ARMS = ("agent", "random", "blind", "counting-mask", "oracle")
REAL_ARMS = ("agent", "random")
