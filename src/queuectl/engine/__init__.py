"""Running jobs: claim, execute, settle; and taking back what a lost worker held."""
