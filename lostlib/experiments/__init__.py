"""What can be measured, and what each experiment is asked: `catalog`, which needs no torch."""
