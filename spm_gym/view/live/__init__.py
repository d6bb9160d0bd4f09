"""What the live page of a run says: facts from its journal, put in words."""
