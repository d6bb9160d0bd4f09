"""Settings of runs that may go on without success, however long."""

PATIENT = (
    "budget.unproven_actions=null",
    "budget.fruitless_actions=null",
    "budget.failed_in_a_row=null",
    "budget.failed_per_night=null",
)
