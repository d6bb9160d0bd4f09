"""Networks, the double DQN and the baselines it is compared with."""
