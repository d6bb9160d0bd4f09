"""Names of the policies that an evaluation compares."""

AGENT_POLICIES = {"agent", "shuffled"}
"""Need a trained agent."""
SIMULATOR_POLICIES = {"single", "blind", "mask", "counting", "counting-mask", "oracle"}
"""Are computed from the simulator."""
POLICIES = (
    "agent", "random", "single", "blind", "mask", "counting", "counting-mask", "oracle", "shuffled",
)  # fmt: skip
DEFAULT_POLICIES = ("agent", "random", "blind", "counting-mask", "oracle")
REAL_POLICIES = ("agent", "random")
