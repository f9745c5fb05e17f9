"""What keeps one party from taking what is everybody's: places, courtesy, and who else is there."""
